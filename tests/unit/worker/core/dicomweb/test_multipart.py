import pytest

from worker.core.dicomweb.multipart import make_body, read_only_part

TYPE = 'multipart/related; type="application/dicom"; boundary="b1"'
PART = b"Content-Type: application/dicom\r\n\r\n"


@pytest.mark.parametrize("file", [b"", b"DICM", b"\r\n--", b"a\r\n\r\nb\r\n", bytes(range(256)) * 100])
def test_one_file_is_read_back(file: bytes) -> None:
    content_type, body = make_body([file])

    assert read_only_part(content_type, body) == file


def test_preamble_and_text_after_the_end_mean_nothing() -> None:
    body = b"preamble\r\n--b1\r\n" + PART + b"file\r\n--b1--\r\nepilogue"

    assert read_only_part(TYPE, body) == b"file"


def test_body_of_type_dicom_is_the_file() -> None:
    assert read_only_part("application/dicom; transfer-syntax=*", b"file") == b"file"


@pytest.mark.parametrize(
    ("content_type", "body", "message"),
    [
        ("text/html", b"<html>", "text/html instead of multipart/related"),
        ("multipart/related", b"--b1\r\n", "instead of multipart/related with a boundary"),
        ("", b"", "instead of multipart/related"),
        (TYPE, b"", "without its boundary"),
        (TYPE, b"--b2\r\n" + PART + b"file\r\n--b2--", "without its boundary"),
        (TYPE, b"--b1", "without the header of a part"),
        (TYPE, b"--b1\r\nContent-Type: application/dicom", "without the header of a part"),
        (TYPE, b"--b1--\r\n" + PART + b"file\r\n--b1--", "without the header of a part"),
        (TYPE, b"--b1\r\n" + b"X: " + b"x" * 9000 + b"\r\n\r\n", "without the header of a part"),
        (TYPE, b"--b1\r\nX: 1\r\n\r\nfile\r\n--b1--", "part without a content type"),
        (TYPE, b"--b1\r\nContent-Type: image/jpeg\r\n\r\nfile\r\n--b1--", "part of type image/jpeg"),
        (TYPE, b"--b1\r\n" + PART + b"file", "without its closing delimiter"),
        (TYPE, b"--b1\r\n" + PART + b"one\r\n--b1\r\n" + PART + b"two\r\n--b1--", "several parts"),
    ],
)
def test_other_bodies_are_refused(content_type: str, body: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_only_part(content_type, body)
