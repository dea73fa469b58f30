from pathlib import Path

import pytest

from worker.core.errors import ImageReferenceError
from worker.core.uris import (
    InstancePath,
    dicomweb_uri,
    file_uri,
    parse_dicomweb_uri,
    parse_file_uri,
    parse_s3_uri,
    s3_uri,
)

NAMES = ["plain.jpg", "ü # ? & + %41.jpg", "100%.jpg", "日本/眼.jpg", "stack.npy"]


@pytest.mark.parametrize("name", NAMES)
def test_file_uri_round_trip(name: str) -> None:
    assert parse_file_uri(file_uri(Path("/images") / name)) == Path("/images") / name


@pytest.mark.parametrize("name", NAMES)
def test_s3_uri_round_trip(name: str) -> None:
    assert parse_s3_uri(s3_uri("bucket", name)) == ("bucket", name)


def test_file_name_need_not_be_utf8() -> None:
    assert bytes(parse_file_uri("file:///images/f%FCr.jpg")) == b"/images/f\xfcr.jpg"


def test_fragment_is_not_part_of_the_path() -> None:
    assert parse_file_uri("file:///images/stack.npy#7") == Path("/images/stack.npy")


def test_key_may_begin_with_a_slash() -> None:
    assert parse_s3_uri("s3://bucket//image.jpg") == ("bucket", "/image.jpg")


def test_longest_key_is_accepted() -> None:
    assert parse_s3_uri(f"s3://bucket/{'x' * 1024}") == ("bucket", "x" * 1024)


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("file:///images/a.jpg?size=2", "has a query"),
        ("file:///images/a%00.jpg", "zero byte"),
        ("file://elsewhere/a.jpg", "not of the form file:///DIR/NAME"),
        ("file:a.jpg", "not of the form"),
        ("s3://bucket/a.jpg", "not of the form file:///DIR/NAME"),
        ("file://[broken/a.jpg", "is not a URI"),
    ],
)
def test_invalid_file_uri_is_refused(reference: str, message: str) -> None:
    with pytest.raises(ImageReferenceError, match=message):
        parse_file_uri(reference)


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("s3://bucket", "not of the form s3://BUCKET/KEY"),
        ("s3://bucket/", "not of the form"),
        ("s3:///a.jpg", "not of the form"),
        ("s3://user:secret@bucket/a.jpg", "not of the form"),
        ("s3://arn:aws:s3:eu-west-1:123456789012:accesspoint/a.jpg", "not of the form"),
        ("s3://bucket/a.jpg?versionId=1", "has a query"),
        ("s3://bucket/f%FCr.jpg", "not UTF-8"),
        (f"s3://bucket/{'x' * 1025}", "1025 bytes, S3 allows 1024"),
    ],
)
def test_invalid_s3_uri_is_refused(reference: str, message: str) -> None:
    with pytest.raises(ImageReferenceError, match=message):
        parse_s3_uri(reference)


def test_dicomweb_uri_round_trip() -> None:
    instance = InstancePath("1.2.826.0.1", "2.25.17028774857584748534749830334202294424", "1")

    assert dicomweb_uri(instance) == "dicomweb://pacs/1.2.826.0.1/2.25.17028774857584748534749830334202294424/1"
    assert parse_dicomweb_uri(dicomweb_uri(instance)) == instance


@pytest.mark.parametrize(
    "uri",
    [
        "dicomweb://pacs/1.2/1.3",
        "dicomweb://pacs/1.2/1.3/1.4/1.5",
        "dicomweb://pacs/1.2/1.3/..",
        "dicomweb://pacs/1.2/1.3/1..4",
        "dicomweb://pacs/1.2/1.3/1.4?x=1",
        "dicomweb://pacs/1.2/1.3/1.4\n",
        f"dicomweb://pacs/1.2/1.3/{'1' * 65}",
        "dicomweb://user:password@pacs/1.2/1.3/1.4",
        "dicomweb://other/1.2/1.3/1.4",
    ],
)
def test_other_dicomweb_uris_are_refused(uri: str) -> None:
    with pytest.raises(ImageReferenceError, match=r"is not of the form|the only PACS is 'pacs'"):
        parse_dicomweb_uri(uri)
