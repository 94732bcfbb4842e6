"""Class names are any text: they come back as they were written, whatever holds them."""

import io
import json
import tarfile
import unicodedata
import zipfile
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from latentd.training.data.source import DataError
from tests.training.data.image_sets import decoded, png, shades_by_class, write_folder, write_tar, write_zip

TEXTS = (
    *("T-shirt/top", "T-shirt/long", "/", "a//b", "../up", ".hidden", "__MACOSX", "C:\\cats", "label=cat", "50%"),
    *(" blanks ", "two\nlines", "tab\there", "no-break\u00a0space", "null", "None", "nan", "0", "00", "1.0", "-1"),
    *(
        "9" * 5000,
        "train",
        "val",
        "猫",
        "кошка",
        "קפה",
        "cafe\u0301",
        "ﬁ",
        "👩‍👩‍👧",
        "\u202eright",
        "\ufeffmark",
        "a\\u0000b",
    ),
    *("\x00", "\x1b[31mred", "'; --", "x" * 300),
)
FOLDERS = tuple(text for text in TEXTS if "/" not in text and "\0" not in text and len(text.encode()) < 255)
VISIBLE = tuple(text for text in FOLDERS if not text.startswith((".", "__MACOSX")))


def expected(texts: tuple[str, ...]) -> dict[str, list[int]]:
    return {unicodedata.normalize("NFC", text): [index] for index, text in enumerate(texts)}


def test_labels_of_parquet_files(tmp_path: Path) -> None:
    table = {"image": [png(index) for index in range(len(TEXTS))], "label": list(TEXTS)}
    pyarrow.parquet.write_table(pyarrow.table(table), tmp_path / "a.parquet")
    assert shades_by_class(decoded(tmp_path / "a.parquet")) == expected(TEXTS)


def test_labels_of_tar_files(tmp_path: Path) -> None:
    members = []
    for index, text in enumerate(TEXTS):
        members += [(f"{index}.png", png(index)), (f"{index}.cls", text.encode())]
    found = shades_by_class(decoded(write_tar(tmp_path / "a.tar", members)))
    assert found == {name.removeprefix("\ufeff"): each for name, each in expected(TEXTS).items()}


def test_folders(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "data", {f"{text}/0.png": png(index) for index, text in enumerate(VISIBLE)})
    assert shades_by_class(decoded(root)) == expected(VISIBLE)


def test_folders_in_a_zip(tmp_path: Path) -> None:
    texts = tuple(text for text in VISIBLE if not text.startswith("C:"))
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for index, text in enumerate(texts):
            archive.writestr(f"{text}/0.png", png(index))
    assert shades_by_class(decoded(tmp_path / "a.zip")) == expected(texts)


def test_folders_in_a_tar(tmp_path: Path) -> None:
    members = [(f"./{text}/0.png", png(index)) for index, text in enumerate(VISIBLE)]
    assert shades_by_class(decoded(write_tar(tmp_path / "a.tar", members))) == expected(VISIBLE)


def test_hive_folders(tmp_path: Path) -> None:
    for index, value in enumerate(("T-shirt%2Ftop", "caf%C3%A9", "a=b", "cat")):
        folder = tmp_path / "data" / f"label={value}"
        folder.mkdir(parents=True)
        pyarrow.parquet.write_table(pyarrow.table({"image": [png(index)]}), folder / "part-0.parquet")
    found = shades_by_class(decoded(tmp_path / "data"))
    assert found == {"T-shirt/top": [0], "café": [1], "a=b": [2], "cat": [3]}


def test_names_that_differ_in_their_normal_form_are_one_class(tmp_path: Path) -> None:
    files = {"cafe\u0301/0.png": png(0), "caf\u00e9/1.png": png(1), "tea/2.png": png(2)}
    assert shades_by_class(decoded(write_folder(tmp_path / "data", files))) == {"caf\u00e9": [0, 1], "tea": [2]}


def test_folders_whose_names_are_no_unicode(tmp_path: Path) -> None:
    for index, name in enumerate((b"caf\xe9", b"tea")):
        folder = tmp_path / "data" / name.decode("utf-8", "surrogateescape")
        folder.mkdir(parents=True)
        (folder / "0.png").write_bytes(png(index))
    found = shades_by_class(decoded(tmp_path / "data"))
    assert found == {"caf\\udce9": [0], "tea": [1]}
    json.dumps(list(found)).encode()


def test_a_hidden_folder_that_may_be_a_class_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = write_folder(tmp_path / "data", {".NET/0.png": png(0), ".git/1.png": png(1), "Java/2.png": png(2)})
    decoded(root)
    assert ".NET: hidden folders are not read" in caplog.text
    assert ".git" not in caplog.text


@pytest.mark.parametrize("system", [0, 3, 10])
def test_a_zip_with_backslashes_has_folders(system: int, tmp_path: Path) -> None:
    members = [(rf"data\{name}\{index}.png".encode(), png(index)) for index, name in enumerate(("cats", "dogs"))]
    path = write_zip(tmp_path / "a.zip", members, system)
    assert shades_by_class(decoded(path)) == {"cats": [0], "dogs": [1]}


def test_a_backslash_is_part_of_a_name_in_a_zip_of_unix_that_has_folders(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "a.zip", [(b"a\\b/0.png", png(0)), (b"c/1.png", png(1))], system=3)
    assert shades_by_class(decoded(path)) == {"a\\b": [0], "c": [1]}


def zip_of(path: Path, names: tuple[str, ...], encoding: str) -> Path:
    return write_zip(path, [(f"{name}/0.png".encode(encoding), png(index)) for index, name in enumerate(names)])


@pytest.mark.parametrize(
    ("encoding", "names"),
    [
        ("utf-8", ("犬", "猫")),
        ("cp437", ("café", "Äpfel")),
        ("shift_jis", ("犬", "猫", "表")),  # the last one has a backslash in it
        ("gbk", ("狗", "猫咪")),
        ("cp866", ("кошки", "собаки")),
        ("big5", ("貓", "狗")),
    ],
)
def test_the_encoding_of_names_in_a_zip_can_be_named(
    encoding: str, names: tuple[str, ...], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = zip_of(tmp_path / "a.zip", names, encoding)
    assert set(shades_by_class(decoded(path, names_encoding=encoding))) == set(names)
    assert not caplog.text.count("names_encoding")
    without = set(shades_by_class(decoded(path)))
    if encoding in ("utf-8", "cp437"):  # found by themselves
        assert without == set(names)
    if encoding != "utf-8":
        assert "--set data.names_encoding=NAME" in caplog.text
        assert f"{encoding}: {', '.join(names)}" in caplog.text


def test_an_encoding_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    path = zip_of(tmp_path / "a.zip", ("café", "thé"), "cp437")
    with pytest.raises(DataError, match="names in it are not of utf-8"):
        decoded(path, names_encoding="utf-8")
    with pytest.raises(DataError, match=r"data\.names_encoding: unknown encoding: klingon"):
        decoded(path, names_encoding="klingon")


def test_names_in_a_tar_that_are_not_utf_8(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    members = [(f"{name}/0.png", png(index)) for index, name in enumerate(("犬", "猫"))]
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w", format=tarfile.GNU_FORMAT, encoding="shift_jis") as archive:
        for name, each in members:
            info = tarfile.TarInfo(name)
            info.size = len(each)
            archive.addfile(info, io.BytesIO(each))
    assert set(shades_by_class(decoded(path, names_encoding="shift_jis"))) == {"犬", "猫"}
    decoded(path)
    assert "names are not of utf-8; name their encoding by --set data.names_encoding=NAME" in caplog.text
