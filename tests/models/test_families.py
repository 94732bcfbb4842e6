import pytest
import torch

from latentd.models.conditions.classes import ClassCondition
from latentd.models.families import build_discriminator, build_encoder, build_generator, families
from latentd.models.family import FittedGenerator
from latentd.models.inputs.latent import LatentInput
from latentd.models.outputs.image import ImageOutput
from latentd.models.outputs.points import PointsOutput
from latentd.models.spec import GeneratorSpec
from tests.conftest import CLASSES, image_spec, points_spec, spec_of

SPECS = [
    points_spec(),
    spec_of("mlp", ImageOutput(channels=1, height=28, width=28), hidden=(16, 16)),
    *(image_spec(side, channels) for side in (28, 32, 64, 128, 256) for channels in (1, 3)),
    *(image_spec(side, conditional=True) for side in (28, 64)),
    spec_of("linear", PointsOutput(dim=9)),
    spec_of("linear", ImageOutput(channels=3, height=5, width=7)),
]


def part_specs(part: str) -> list[GeneratorSpec]:
    return [spec for spec in SPECS if getattr(families()[spec.family], part)]


def name_of(spec: GeneratorSpec) -> str:
    return f"{spec.family}-{spec.output.shape}-{spec.condition.kind}"


def one_hot(spec: GeneratorSpec, labels: list[int]) -> torch.Tensor | None:
    return torch.eye(spec.condition.size)[labels] if spec.condition.size else None


@pytest.mark.parametrize("spec", SPECS, ids=name_of)
def test_samples_have_the_shape_and_range_of_the_spec(spec: GeneratorSpec) -> None:
    samples = build_generator(spec)(3 * torch.randn(3, 8), one_hot(spec, [0, 1, 2]))
    assert samples.shape == (3, *spec.output.shape)
    if spec.output.bounded:
        assert samples.abs().max() <= 1


@pytest.mark.parametrize("spec", part_specs("encoder"), ids=name_of)
def test_generator_and_encoder_fit_each_other(spec: GeneratorSpec) -> None:
    encoder = build_encoder(spec, {}, outputs=5)
    outputs = encoder(build_generator(spec)(torch.randn(3, 8), one_hot(spec, [0, 1, 2])))
    assert outputs.shape == (3, 5)
    outputs.sum().backward()
    assert all(parameter.grad is not None for parameter in encoder.parameters())


@pytest.mark.parametrize("spec", part_specs("discriminator"), ids=name_of)
def test_generator_and_discriminator_fit_each_other(spec: GeneratorSpec) -> None:
    z, condition = torch.randn(3, 8), one_hot(spec, [0, 1, 2])
    generator = build_generator(spec)
    samples = generator(z, condition)
    logits = build_discriminator(spec, {})(samples, condition)
    assert logits.shape == (3,)
    logits.sum().backward()
    assert all(parameter.grad is not None for parameter in generator.parameters())


@pytest.mark.parametrize("spec", SPECS)
def test_spec_survives_json(spec: GeneratorSpec) -> None:
    assert GeneratorSpec.model_validate_json(spec.model_dump_json()) == spec


def test_forward_is_deterministic() -> None:
    generator = build_generator(image_spec()).eval()
    z = torch.randn(4, 8)
    assert torch.equal(generator(z), generator(z))


def test_classes_and_their_mixtures_change_the_sample() -> None:
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


@pytest.mark.parametrize("side", [27, 512])
def test_dcgan_names_the_sides_that_it_supports(side: int) -> None:
    with pytest.raises(ValueError, match="28, 32, 64, 128, 256"):
        build_generator(spec_of("dcgan", ImageOutput(channels=1, height=side, width=side)))


def test_mlp_refuses_classes_and_dcgan_points() -> None:
    with pytest.raises(ValueError, match="condition"):
        build_generator(spec_of("mlp", PointsOutput(dim=2), ClassCondition(names=CLASSES)))
    with pytest.raises(ValueError, match="square images"):
        build_generator(spec_of("dcgan", PointsOutput(dim=2)))


def test_linear_takes_no_more_latents_than_a_sample_has_values() -> None:
    with pytest.raises(ValueError, match="8 numbers is more than the 2 of a sample"):
        build_generator(spec_of("linear", PointsOutput(dim=2)))
    with pytest.raises(ValueError, match="condition"):
        build_generator(spec_of("linear", PointsOutput(dim=9), ClassCondition(names=CLASSES)))


def test_linear_takes_the_largest_principal_components() -> None:
    """Fit a covariance with known eigenvectors, and compare W Wᵀ with them."""
    directions = torch.linalg.qr(torch.randn(9, 9, dtype=torch.float64)).Q
    variances = torch.arange(9, 0, -1, dtype=torch.float64)
    generator = build_generator(spec_of("linear", PointsOutput(dim=9)))
    assert isinstance(generator, FittedGenerator)
    generator.fit(torch.arange(9.0), directions @ variances.diag() @ directions.T)
    samples = generator(torch.cat([torch.zeros(1, 8), torch.eye(8)]))
    assert samples[0].tolist() == pytest.approx(list(range(9)))
    weight = (samples[1:] - samples[0]).T.double()  # [9, 8]
    largest = directions[:, :8]
    assert torch.allclose(weight @ weight.T, largest @ variances[:8].diag() @ largest.T, atol=1e-5)
    assert weight.norm(dim=0).tolist() == pytest.approx(variances[:8].sqrt().tolist(), rel=1e-5)


def test_an_unknown_family_is_refused_with_the_known_ones() -> None:
    spec = GeneratorSpec(family="nope", config={}, input=LatentInput(dim=2), output=PointsOutput(dim=2))
    with pytest.raises(ValueError, match="dcgan, linear, mlp"):
        build_generator(spec)
    assert list(families()) == ["dcgan", "linear", "mlp"]


def test_labels_by_index_and_name() -> None:
    classes = ClassCondition(names=CLASSES)
    assert classes.index(2) == classes.index("owl") == 2
    for wrong in (3, -1, "cow"):
        with pytest.raises(ValueError, match="cat, dog, owl"):
            classes.index(wrong)
