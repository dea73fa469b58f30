from pathlib import Path

import pytest

from worker.core.errors import SourceError
from worker.core.manifests.admission import AdmissionPolicy
from worker.core.manifests.image_reference import ImageReference
from worker.core.manifests.manifest import read_manifest
from worker.core.vocabulary import Eye, Grade

SHA = "0123456789abcdef" * 4


def write(folder: Path, content: str | bytes, name: str = "m.csv") -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


CLINIC = AdmissionPolicy(store_bucket="clinic")


def read(path: Path, policy: AdmissionPolicy = CLINIC) -> tuple[list[ImageReference], list[str]]:
    warnings: list[str] = []
    return list(read_manifest(path, warnings.append, policy)), warnings


def test_every_column_of_a_csv_row_is_read(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        "\ufeffuri,image_id,patient_id,eye,reference_grade,sha256,source\r\n"
        f"sub/a.jpg,eye-1,\"Doe, J\",OD,3,{SHA.upper()},NW400\r\n"
        "\r\n"
        "s3://clinic/b.jpg,,,,,,\r\n",
    )  # fmt: skip

    assert read(path) == (
        [
            ImageReference((tmp_path / "sub/a.jpg").as_uri(), "eye-1", "Doe, J", Eye.RIGHT, Grade.SEVERE, SHA, "NW400"),
            ImageReference("s3://clinic/b.jpg"),
        ],
        [],
    )


def test_every_key_of_a_json_line_is_read(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        '{"uri": "sub/a.jpg", "image_id": "eye-1", "patient_id": 17, "eye": "left", "reference_grade": 0}\n'
        "\n"
        '{"uri": "s3://clinic/b.jpg", "reference_grade": null, "eye": null}\n',
        "m.jsonl",
    )

    assert read(path)[0] == [
        ImageReference((tmp_path / "sub/a.jpg").as_uri(), "eye-1", "17", Eye.LEFT, Grade.NO_DR),
        ImageReference("s3://clinic/b.jpg"),
    ]


def test_unknown_columns_are_reported_once(tmp_path: Path) -> None:
    path = write(tmp_path, "uri,camera,site\na.jpg,Topcon,x\nb.jpg,Topcon,y\n")

    references, warnings = read(path)

    assert len(references) == 2
    assert warnings == [f"{path}, line 2: unknown columns are ignored: camera, site"]


def test_markup_is_accepted_in_patient_ids_only(tmp_path: Path) -> None:
    """All other cells that a page shows are letters, digits and percent signs. Tests of the pages rely on this."""
    markup = "<img src=x onerror=alert(1)>"
    path = write(tmp_path, f"uri,patient_id,{markup}\n{markup}.jpg,{markup},{markup}\n")

    references, _ = read(path)

    assert references == [
        ImageReference(f"{tmp_path.as_uri()}/%3Cimg%20src%3Dx%20onerror%3Dalert%281%29%3E.jpg", None, markup)
    ]
    for column in ("image_id", "eye", "reference_grade", "sha256"):
        with pytest.raises(SourceError, match=f"column {column}: "):
            read(write(tmp_path, f"uri,{column}\na.jpg,{markup}\n"))


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("", "m.csv is empty; the first line must be a header"),
        ("uri;image_id\na.jpg;1\n", "m.csv, line 1: missing column uri; the columns are uri;image_id"),
        ("uri,eye,uri\na,b,c\n", "m.csv, line 1: duplicate column 'uri'"),
        ("uri,eye\na.jpg\n", "m.csv, line 2: 1 cells, the header has 2 columns"),
        ("uri,eye\na.jpg,OD,x\n", "m.csv, line 2: 3 cells, the header has 2 columns"),
        ('uri\n"a.jpg\n', "m.csv, line 2: unexpected end of data"),
        ('uri\n"a"b\n', "m.csv, line 2: .*expected after"),
        (
            "uri\nhttp://x/a.jpg\n",
            "m.csv, line 2, column uri: scheme 'http' is not supported; use file, s3 or dicomweb",
        ),
        ("uri,eye\n,OD\n", "m.csv, line 2, column uri: is empty"),
        (
            "uri\na.jpg\na\x1b[31m.jpg\n",
            r"m.csv, line 3, column uri: 'a\\x1b\[31m.jpg' contains an unprintable",
        ),
        ("uri,image_id\na.jpg,../../etc\n", "m.csv, line 2, column image_id: '../../etc' must be 1 to 128 letters"),
        ("uri,image_id\na.jpg,-x\n", "column image_id: '-x' must"),
        (f"uri,patient_id\na.jpg,{'p' * 129}\n", "column patient_id: 129 characters, the limit is 128"),
        ('uri,patient_id\na.jpg,"=HYPERLINK(1)"\n', "column patient_id: begins with '=', so a spreadsheet"),
        ("uri,patient_id\na.jpg,@SUM(1)\n", "column patient_id: begins with '@'"),
        ("uri,eye\na.jpg,both\n", "column eye: eye 'both' is invalid"),
        ("uri,reference_grade\na.jpg,5\n", "column reference_grade: '5' is not a grade from 0 to 4"),
        ("uri,reference_grade\na.jpg,\u0663\n", "column reference_grade: .* is not a grade from 0 to 4"),
        ("uri,sha256\na.jpg,abc\n", "column sha256: 'abc' must be 64 hexadecimal digits"),
        (b"uri\na.jpg\n\xff.jpg\n", "m.csv, at or after line 1: not UTF-8"),
        ("uri\n" + "x" * (2**20 + 1), "m.csv, line 2: longer than 1048576 characters"),
        ("uri\n" + "x" * 140_000, "m.csv, line 2: field larger than field limit"),
        ("uri," + ",".join(f"c{i}" for i in range(100)) + "\n", "line 1: 101 columns, the limit is 100"),
    ],
)
def test_csv_error_names_file_line_and_column(tmp_path: Path, content: str | bytes, why: str) -> None:
    with pytest.raises(SourceError, match=why):
        read(write(tmp_path, content))


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ('{"uri": "a.jpg"}\n{"uri": \n', "m.jsonl, line 2: not JSON"),
        ("[" * 100_000, "m.jsonl, line 1: not JSON"),
        ('["a.jpg"]', "m.jsonl, line 1: must be one object"),
        ('{"image_id": "a"}', "m.jsonl, line 1: missing column uri; the columns are image_id"),
        ('{"uri": ["a.jpg"]}', r'm.jsonl, line 1, column uri: must be a string or an integer, got \["a.jpg"\]'),
        (
            '{"uri": "a.jpg", "reference_grade": true}',
            "column reference_grade: must be a string or an integer, got true",
        ),
        ('{"uri": "a\\ud800.jpg"}', "column uri: .* unprintable character"),
        ('{"uri": "a\\u0000.jpg"}', "column uri: .* unprintable character"),
        ("\n".join(f'{{"uri": "a.jpg", "x{i}": 1}}' for i in range(101)), "line 101: 101 unknown columns so far"),
    ],
)
def test_json_error_names_file_line_and_column(tmp_path: Path, content: str, why: str) -> None:
    with pytest.raises(SourceError, match=why):
        read(write(tmp_path, content, "m.jsonl"))


def test_rows_before_an_error_are_yielded(tmp_path: Path) -> None:
    rows = read_manifest(write(tmp_path, "uri,eye\na.jpg,OS\nb.jpg,both\n"), print, CLINIC)

    assert next(rows).eye == Eye.LEFT


def test_error_names_a_missing_manifest(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"cannot read .*none.csv: No such file"):
        read(tmp_path / "none.csv")
