from collections.abc import Iterator
from pathlib import Path

import pytest

from worker.core.errors import SourceError
from worker.core.manifests.image_reference import ImageReference
from worker.core.manifests.labels import attach_labels, read_labels_by_name, read_labels_in_order


def write(folder: Path, content: str) -> Path:
    path = folder / "labels.csv"
    path.write_text(content)
    return path


def references(*uris: str) -> Iterator[ImageReference]:
    return (ImageReference(uri) for uri in uris)


@pytest.mark.parametrize(
    "content",
    [
        "id_code,diagnosis\n000c1434d8d7,2\n001639a390f0,4\n",
        "image,dr_grade,dme_risk\n000c1434d8d7,2,1\n001639a390f0,4,0\n",
        "image_id,reference_grade\n000c1434d8d7.jpg,2\n001639a390f0.PNG,4\n",
        # As IDRiD is published, with the sheet's empty columns and rows.
        "\ufeffImage name,Retinopathy grade,Risk of macular edema ,,\n000c1434d8d7,2,1,,\n001639a390f0,4,0,,\n,,,,\n",
    ],
)
def test_layouts_are_recognised(tmp_path: Path, content: str) -> None:
    assert read_labels_by_name(write(tmp_path, content)) == {"000c1434d8d7": 2, "001639a390f0": 4}


def test_labels_are_matched_by_file_stem(tmp_path: Path) -> None:
    labels = write(tmp_path, "image,dr_grade\na,1\nleft eye,3\nb.2,4\n")
    warnings: list[str] = []

    labelled = attach_labels(
        references("file:///x/a.jpg", "s3://clinic/left%20eye.png", "file:///x/b.2.tif"), labels, warnings.append
    )

    assert [reference.reference_grade for reference in labelled] == [1, 3, 4]
    assert warnings == []


def test_unmatched_labels_and_images_are_counted(tmp_path: Path) -> None:
    labels = write(tmp_path, "image,dr_grade\na,1\nw,0\nx,0\ny,0\nz,0\n")
    warnings: list[str] = []

    grades = [
        r.reference_grade for r in attach_labels(references("file:///a.jpg", "file:///b.jpg"), labels, warnings.append)
    ]

    assert grades == [1, None]
    assert warnings == [
        f"labels of {labels} that match no image: 4 (w, x, y, ...)",
        f"images without a label in {labels}: 1",
    ]


def test_label_that_matches_two_images_is_refused(tmp_path: Path) -> None:
    labels = write(tmp_path, "image,dr_grade\n1,4\n")

    with pytest.raises(SourceError, match=r"label '1' matches both file:///left/1.jpg and file:///right/1.jpg"):
        list(attach_labels(references("file:///left/1.jpg", "file:///right/1.jpg"), labels, print))


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("image,dr_grade\na,1\nb,9\n", "labels.csv, line 3: '9' is not a grade"),
        ("image,dr_grade\na,1\na,2\n", "labels.csv, line 3: 'a' has grade 2, an earlier line gives 1"),
        ("image,level\na,1\n", "line 1: missing column diagnosis or dr_grade or reference_grade"),
        ("name,diagnosis\na,1\n", "line 1: missing column id_code or image or image_id"),
        ("image,dr_grade,,\na,1,,\nb,1,,,x\n", "line 3: 5 cells, the header has 2 columns"),
        ("image,,dr_grade,,\na,,x,,\n", "'x' is not a grade"),
        ("image,dr_grade\na\x1b,1\n", "labels.csv, line 2: .*unprintable character"),
    ],
)
def test_error_names_the_line(tmp_path: Path, content: str, why: str) -> None:
    with pytest.raises(SourceError, match=why):
        read_labels_by_name(write(tmp_path, content))


def test_labels_in_order_include_rows_without_a_grade(tmp_path: Path) -> None:
    assert read_labels_in_order(write(tmp_path, "id_code,diagnosis\nx,4\ny,\nz,0\n")) == [4, None, 0]


def test_personal_column_is_refused_by_name(tmp_path: Path) -> None:
    labels = write(tmp_path, "image,dr_grade,Patient Name\na,1,Jane Roe\n")

    with pytest.raises(SourceError, match=r"labels.csv, line 2, column Patient Name: looks like") as caught:
        read_labels_by_name(labels)
    assert caught.value.code == "personal_column"
    assert "Roe" not in caught.value.detail
    with pytest.raises(SourceError, match=r"column Patient Name"):
        read_labels_in_order(labels)
    assert read_labels_by_name(labels, {"Patient Name"}) == {"a": 1}
