"""What names mean, by rules that need no file; and the history of promotions."""

from pathlib import Path

import pytest

from latentd.models.errors import CheckpointError
from latentd.models.file_names import name_and_version
from latentd.models.names import CatalogFile, ResolvedNames, VersionedFile
from latentd.models.promotions import Promotion, PromotionError, Promotions

A, B, C = ("a" * 12, "b" * 12, "c" * 12)


def of(path: str, version: str, run: str | None = None) -> VersionedFile:
    return VersionedFile(CatalogFile(Path(path), run), version)


def history(*steps: tuple[str, str | None]) -> Promotions:
    """Promotions of (name, version); None rolls back."""
    return Promotions(
        history=tuple(
            Promotion(
                action="promote" if version else "rollback", name=name, version=version, before=None, by="a@b", at="now"
            )
            for name, version in steps
        )
    )


def meant(names: ResolvedNames, name: str) -> str | None:
    found = names.find(name)
    return found and found.version


def test_the_last_file_of_a_name_is_meant_and_the_others_answer_with_their_versions() -> None:
    names = ResolvedNames.of([of("one/m.safetensors", A), of("two/m.safetensors", B)], Promotions())
    assert meant(names, "m") == B
    assert meant(names, f"m@{A}") == A
    assert meant(names, f"m@{C}") is None


def test_a_file_with_a_version_in_its_name_is_meant_only_when_it_is_promoted() -> None:
    files = [of(f"m@{A}.safetensors", A), of(f"m@{B}.safetensors", B)]
    assert meant(ResolvedNames.of(files, Promotions()), "m") is None
    assert meant(ResolvedNames.of(files, history(("m", A))), "m") == A


def test_a_promoted_version_without_a_file_is_missing_and_nothing_takes_its_place() -> None:
    names = ResolvedNames.of([of("m.safetensors", A)], history(("m", B)))
    assert meant(names, "m") is None
    assert names.missing == {"m": B}


def test_a_version_keeps_the_names_that_it_was_promoted_to() -> None:
    files = [of("runs/x/recipe.safetensors", A, "runs/x")]
    names = ResolvedNames.of(files, history(("m", A), ("m", None)))
    assert meant(names, "m") is None
    assert [meant(names, f"{name}@{A}") for name in ("m", "recipe", "runs/x", "other")] == [A, A, A, None]


def test_a_runs_name_means_its_last_generator() -> None:
    files = [of(f"runs/x/{stem}.safetensors", version, "runs/x") for stem, version in (("r-best", A), ("r", B))]
    assert meant(ResolvedNames.of(files, Promotions()), "runs/x") == B
    assert meant(ResolvedNames.of(files[:1], Promotions()), "runs/x") == A


def test_rollbacks_undo_one_promotion_each() -> None:
    steps = [("m", A), ("n", C), ("m", B), ("m", None), ("m", None), ("m", None)]
    expected = [A, A, B, A, None, None]
    assert [history(*steps[: count + 1]).current.get("m") for count in range(len(steps))] == expected
    assert history(*steps).current == {"n": C}
    assert history(*steps[:3]).before_current("m") == A
    assert history(*steps[:1]).before_current("m") is None


def test_promotions_are_written_and_read(tmp_path: Path) -> None:
    assert Promotions.read(tmp_path) == Promotions()
    history(("m", A)).write(tmp_path)
    assert Promotions.read(tmp_path).current == {"m": A}
    (tmp_path / "promoted.json").write_text("{")
    with pytest.raises(PromotionError, match=r"promoted.json: it is no list of promotions"):
        Promotions.read(tmp_path)


def test_promotions_of_a_later_folder_count_more() -> None:
    merged = Promotions.merged([history(("m", A), ("n", A)), history(("m", B))])
    assert merged.current == {"m": B, "n": A}


def test_a_files_name_may_have_a_version() -> None:
    assert name_and_version(Path("m.safetensors")) == ("m", None)
    assert name_and_version(Path(f"m@{A}.safetensors")) == ("m", A)
    for name in ("m@.safetensors", "m@1.safetensors", f"@{A}.safetensors", f"m@{A}@{A}.safetensors", "m.pth"):
        with pytest.raises(CheckpointError):
            name_and_version(Path(name))
