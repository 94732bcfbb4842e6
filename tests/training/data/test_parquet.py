"""Parquet files as others wrote them: names of columns, kinds of values, names of classes, paths without files."""

import json
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from latentd.training.data.source import DataError
from tests.training.data.image_sets import decoded, png, settings, shades, shades_by_class


def write(path: Path, columns: dict[str, object], metadata: dict[str, object] | None = None) -> Path:
    table = pyarrow.table(columns)
    if metadata is not None:
        table = table.replace_schema_metadata({"huggingface": json.dumps(metadata)})
    pyarrow.parquet.write_table(table, path)
    return path


IMAGES = [png(0), png(1), png(2)]


@pytest.mark.parametrize("image", ["image", "img", "jpg", "png", "picture", "anything", "Bild"])
@pytest.mark.parametrize("label", ["label", "labels", "class", "fine_label", "category"])
def test_columns_are_found_by_their_names_and_types(image: str, label: str, tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", {"id": [7, 8, 9], image: IMAGES, label: ["a", "b", "a"]})
    assert shades_by_class(decoded(path)) == {"a": [0, 2], "b": [1]}


@pytest.mark.parametrize(
    "kind", [pyarrow.binary(), pyarrow.large_binary(), pyarrow.binary(len(IMAGES[0])), pyarrow.binary_view()]
)
def test_all_kinds_of_bytes(kind: pyarrow.DataType, tmp_path: Path) -> None:
    same_size = [png(shade) for shade in (3, 3, 3)]
    column = pyarrow.array(same_size, kind) if kind.equals(pyarrow.binary(len(same_size[0]))) else None
    column = column or pyarrow.array(IMAGES, pyarrow.binary() if kind == pyarrow.binary(len(IMAGES[0])) else kind)
    assert len(shades(decoded(write(tmp_path / "a.parquet", {"image": column})))) == 3


def test_a_column_is_to_be_named_if_several_may_be_meant(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write(tmp_path / "a.parquet", {"left": IMAGES, "right": IMAGES[::-1]})
    with pytest.raises(DataError, match=r"several columns of bytes \(left, right\).*--set data.image_column=NAME"):
        decoded(path)
    assert decoded(path, image_column="right").images[:, 4, 4, 0].tolist() == [2, 1, 0]
    labels = {"image": IMAGES, "fine_label": ["a", "b", "c"], "coarse_label": ["x", "x", "y"]}
    path = write(tmp_path / "b.parquet", labels)
    assert decoded(path).classes.names == ()
    assert "several columns may be the labels (fine_label, coarse_label) and none is used" in caplog.text
    assert "--set data.label_column=NAME" in caplog.text
    assert decoded(path, label_column="coarse_label").classes.names == ("x", "y")
    with pytest.raises(DataError, match="has no column `color`; it has image, fine_label, coarse_label"):
        decoded(path, label_column="color")
    source = settings(label_column="fine_label").load(path, lambda _: None)
    assert source.condition.class_names == ("a", "b", "c")


def test_the_names_of_classes_that_datasets_stores(tmp_path: Path) -> None:
    feature = {"_type": "ClassLabel", "names": ["T-shirt/top", "Bag"]}
    metadata: dict[str, object] = {"info": {"features": {"image": {"_type": "Image"}, "label": feature}}}
    images = [{"bytes": content, "path": f"{index}.png"} for index, content in enumerate(IMAGES)]
    path = write(tmp_path / "a.parquet", {"image": images, "label": [0, 1, 0]}, metadata)
    assert shades_by_class(decoded(path)) == {"Bag": [1], "T-shirt/top": [0, 2]}
    without = write(tmp_path / "b.parquet", {"image": images, "label": [0, 1, -1]}, metadata)
    assert decoded(without).classes.why_none.startswith("1 images have no label")
    strange = write(tmp_path / "c.parquet", {"image": images, "label": [0, 1, 0]}, {"info": [1]})
    assert decoded(strange).classes.names == ("0", "1")


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        (pyarrow.array([1.0, 2.0, 10.0]), ("1", "2", "10")),  # as pandas has them if one was missing
        (pyarrow.array([1, 2, 1], pyarrow.uint8()), ("1", "2")),
        (pyarrow.array([True, False, True]), ("False", "True")),
        (pyarrow.array(["a", "b", "a"]).dictionary_encode(), ("a", "b")),
        (pyarrow.array(["a", "b", "a"], pyarrow.large_string()), ("a", "b")),
        (pyarrow.array(["a", "b", "a"], pyarrow.string_view()), ("a", "b")),
        (pyarrow.array([b"a", "é".encode(), b"a"]), ("a", "é")),
    ],
)
def test_kinds_of_labels(labels: pyarrow.Array, names: tuple[str, ...], tmp_path: Path) -> None:
    images = [{"bytes": content, "path": None} for content in IMAGES]
    assert decoded(write(tmp_path / "a.parquet", {"image": images, "label": labels})).classes.names == names


def test_several_labels_of_one_image_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", {"image": IMAGES, "labels": [[1, 2], [3], []]})
    with pytest.raises(DataError, match="column `labels` holds several values for an image; name another"):
        decoded(path)


def test_paths_in_place_of_files_are_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    images = [{"bytes": None, "path": f"/data/{index}.png"} for index in range(3)]
    kind = pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])
    path = write(tmp_path / "a.parquet", {"image": pyarrow.array(images, kind)})
    with pytest.raises(DataError, match="none of its 3 images could be read"):
        decoded(path)
    assert "skipped: the file is not in the Parquet file, only its path (/data/0.png)" in caplog.text
    path = write(tmp_path / "b.parquet", {"image": ["/data/0.png"]})
    with pytest.raises(DataError, match=r"column `image` holds string, not the bytes.*if these are paths"):
        decoded(path)


@pytest.mark.parametrize("name", ["a.parquet", "A.PARQUET", "a.pq", "a.parq", "a.bin"])
def test_suffixes_of_parquet_files(name: str, tmp_path: Path) -> None:
    assert shades(decoded(write(tmp_path / name, {"image": IMAGES}))) == [0, 1, 2]


@pytest.mark.parametrize("cut", [0, 3, 10, 200])
def test_a_cut_parquet_file_is_named(cut: int, tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", {"image": IMAGES})
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(DataError, match=r"a\.parquet is damaged or incomplete"):
        decoded(path)


def test_damaged_pages_of_a_parquet_file_are_named(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", {"image": IMAGES})
    content = path.read_bytes()
    path.write_bytes(content[:4] + b"\xff" * 60 + content[64:])
    with pytest.raises(DataError, match=r"a\.parquet is damaged or incomplete"):
        decoded(path)
