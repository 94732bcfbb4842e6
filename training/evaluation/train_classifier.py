"""Training of the embedded feature extractor: `python -m latentd.training.evaluation.train_classifier`."""

import json
from pathlib import Path

import click
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from latentd.models.tensor_files import write_tensors
from latentd.training.adversarial.augment import flip, translate
from latentd.training.data.idx import load_idx_set
from latentd.training.data.pixels import normalize
from latentd.training.evaluation.classifier import CLASSIFIER_DATASET, WEIGHTS_FILE, Classifier
from latentd.training.randomness import generator_for, seed_default, seed_for
from latentd.training.schedule import schedule


def train_classifier(
    images: Tensor,
    labels: Tensor,
    epochs: int,
    seed: int,
    batch_size: int = 128,
    width: int = 32,
) -> Classifier:
    """Train on images [N, 1, 28, 28] in [-1, 1] with labels [N], and return the classifier in evaluation mode.

    Cross-entropy on flipped and shifted images, AdamW, cosine schedule, forward passes in bfloat16. The same `seed`
    gives the same weights on the same machine.
    """
    seed_default(seed_for(seed, "classifier"))
    classifier = Classifier(width).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(classifier.parameters(), weight_decay=0.02, fused=True)
    steps = epochs * (len(images) // batch_size)
    factor = schedule(steps, "cosine", warmup=min(200, steps // 4))
    step = 0
    for epoch in range(epochs):
        order = torch.randperm(len(images), generator=generator_for(seed, "epoch", epoch))
        for rows in torch.split(order, batch_size)[: len(images) // batch_size]:
            step += 1
            optimizer.param_groups[0]["lr"] = 3e-3 * factor(step)
            augmented = translate(flip(images[rows] + 1)) - 1  # shifting fills the border with black
            with torch.autocast("cpu", dtype=torch.bfloat16):
                logits = classifier(augmented)
            loss = cross_entropy(logits.float(), labels[rows], label_smoothing=0.05)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]  # torch leaves Tensor.backward untyped
            optimizer.step()
        click.echo(f"epoch {epoch + 1} of {epochs}: loss {loss.item():.3f}", err=True)
    return classifier.eval()  # type: ignore[no-any-return]


def accuracy(classifier: Classifier, images: Tensor, labels: Tensor) -> float:
    """Return the fraction of images that are classified correctly."""
    _, probabilities = classifier.extract(images)
    return float((probabilities.argmax(dim=1) == labels).double().mean())


@click.command()
@click.option(
    "--out", type=click.Path(path_type=Path), default=Path(__file__).with_name(WEIGHTS_FILE), show_default=True
)
@click.option("--epochs", type=click.IntRange(1), default=12, show_default=True)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
def main(out: Path, epochs: int, seed: int) -> None:
    """Train the embedded classifier on the training split, and print its accuracy on both splits."""
    loaded = {split: load_idx_set(CLASSIFIER_DATASET, None, lambda _: None, split) for split in ("train", "test")}
    sets = {}
    for split, each in loaded.items():
        sets[split] = (normalize(torch.tensor(each.images)[:, None]), torch.tensor(each.labels, dtype=torch.int64))
    classifier = train_classifier(*sets["train"], epochs, seed)
    facts = {
        "accuracy_test": accuracy(classifier, *sets["test"]),
        "accuracy_train": accuracy(classifier, *sets["train"]),
        "epochs": epochs,
        "seed": seed,
        "data_sha256": loaded["train"].sha256,
    }
    write_tensors(out, classifier.state_dict(), {"latentd.classifier": json.dumps(facts)})
    click.echo(json.dumps(facts, indent=2))


if __name__ == "__main__":
    main()
