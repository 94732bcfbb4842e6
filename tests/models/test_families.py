import pytest
import torch

from models.families import build_discriminator, build_generator, families
from models.outputs import ImageOutput, PointsOutput
from models.spec import ClassCondition, GeneratorSpec, LatentInput
from tests.conftest import CLASSES, image_spec, points_spec, spec_of

SPECS = [
    points_spec(),
    spec_of("mlp", ImageOutput(channels=1, height=28, width=28), hidden=(16, 16)),
    *(image_spec(side, channels) for side in (28, 32, 64, 128) for channels in (1, 3)),
    *(image_spec(side, conditional=True) for side in (28, 64)),
]


def one_hot(spec: GeneratorSpec, labels: list[int]) -> torch.Tensor | None:
    return spec.condition.one_hot(torch.tensor(labels)) if isinstance(spec.condition, ClassCondition) else None


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: f"{spec.family}-{spec.output.shape}-{spec.condition.kind}")
def test_generator_and_discriminator_fit_each_other(spec: GeneratorSpec) -> None:
    z, condition = torch.randn(3, 8), one_hot(spec, [0, 1, 2])
    generator = build_generator(spec)
    samples = generator(z, condition)
    assert samples.shape == (3, *spec.output.shape)
    if spec.output.bounded:
        assert samples.abs().max() <= 1
    logits = build_discriminator(spec, {})(samples, condition)
    assert logits.shape == (3,)
    logits.sum().backward()
    assert all(parameter.grad is not None for parameter in generator.parameters())


@pytest.mark.parametrize("spec", SPECS)
def test_spec_survives_json(spec: GeneratorSpec) -> None:
    assert GeneratorSpec.model_validate_json(spec.model_dump_json()) == spec


def test_forward_is_a_function() -> None:
    generator = build_generator(image_spec()).eval()
    z = torch.randn(4, 8)
    assert torch.equal(generator(z), generator(z))


def test_the_class_changes_the_sample_and_a_blend_lies_between() -> None:
    spec = image_spec(conditional=True)
    torch.manual_seed(0)
    generator = build_generator(spec).eval()
    with torch.no_grad():
        for norm in [generator.project_norm, *generator.norms]:
            norm.gain_and_bias.weight.uniform_(0.5, 1.5)
    z = torch.randn(1, 8)
    cat, dog = torch.eye(3)[:1], torch.eye(3)[1:2]
    assert not torch.equal(generator(z, cat), generator(z, dog))
    blend = generator(z, (cat + dog) / 2)
    assert not torch.equal(blend, generator(z, cat))
    assert not torch.equal(blend, generator(z, dog))


@pytest.mark.parametrize("norm", ["batch", "spectral", "none"])
def test_discriminator_norms(norm: str) -> None:
    discriminator = build_discriminator(image_spec(64), {"norm": norm})
    has_batch_norm = any(isinstance(module, torch.nn.BatchNorm2d) for module in discriminator.modules())
    assert has_batch_norm == (norm == "batch")
    weights = [name for name, _ in discriminator.named_parameters() if "parametrizations" in name]
    assert bool(weights) == (norm == "spectral")


@pytest.mark.parametrize("side", [27, 256])
def test_dcgan_says_which_sides_it_makes(side: int) -> None:
    with pytest.raises(ValueError, match="28, 32, 64, 128"):
        build_generator(spec_of("dcgan", ImageOutput(channels=1, height=side, width=side)))


def test_mlp_refuses_classes_and_dcgan_points() -> None:
    with pytest.raises(ValueError, match="condition"):
        build_generator(spec_of("mlp", PointsOutput(dim=2), ClassCondition(names=CLASSES)))
    with pytest.raises(ValueError, match="square images"):
        build_generator(spec_of("dcgan", PointsOutput(dim=2)))


def test_unknown_family_names_the_known() -> None:
    spec = GeneratorSpec(family="nope", config={}, input=LatentInput(dim=2), output=PointsOutput(dim=2))
    with pytest.raises(ValueError, match="dcgan, mlp"):
        build_generator(spec)
    assert list(families()) == ["dcgan", "mlp"]


def test_labels_by_index_and_name() -> None:
    classes = ClassCondition(names=CLASSES)
    assert classes.index(2) == classes.index("owl") == 2
    for wrong in (3, -1, "cow"):
        with pytest.raises(ValueError, match="cat, dog, owl"):
            classes.index(wrong)
