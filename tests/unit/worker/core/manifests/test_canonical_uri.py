from pathlib import Path

import pytest

from worker.core.manifests.canonical_uri import canonical_path, canonical_uri

FOLDER = Path("/photos")


@pytest.mark.parametrize(
    ("text", "uri"),
    [
        ("eye.jpg", "file:///photos/eye.jpg"),
        ("../other/./eye.jpg", "file:///other/eye.jpg"),
        ("/mnt/left eye#1.jpg", "file:///mnt/left%20eye%231.jpg"),
        ("file:///mnt//left%20eye.jpg", "file:///mnt/left%20eye.jpg"),
        ("file:///mnt/left eye.jpg", "file:///mnt/left%20eye.jpg"),
        ("file://localhost/mnt/eye.jpg", "file:///mnt/eye.jpg"),
        ("file:///mnt/stack.npy#7", "file:///mnt/stack.npy#7"),
        ("s3://clinic/2026/left eye.jpg", "s3://clinic/2026/left%20eye.jpg"),
        ("s3://clinic/2026/left%20eye.jpg", "s3://clinic/2026/left%20eye.jpg"),
        ("s3://clinic/a%23b%3Fc.jpg", "s3://clinic/a%23b%3Fc.jpg"),
        ("s3://clinic/a//b.jpg", "s3://clinic/a//b.jpg"),
        ("dicomweb://pacs/1.2.3/1.2.4/1.2.5", "dicomweb://pacs/1.2.3/1.2.4/1.2.5"),
    ],
)
def test_every_spelling_gives_one_uri(text: str, uri: str) -> None:
    assert canonical_uri(text, folder=FOLDER) == uri


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("http://clinic/eye.jpg", "'http' is not supported; use file, s3 or dicomweb"),
        ("data:image/png;base64,AAAA", "'data' is not supported; use file, s3 or dicomweb"),
        ("dicomweb://other/1.2.3/1.2.4/1.2.5", "the only PACS is 'pacs'"),
        ("dicomweb://pacs/1.2.3", "not of the form dicomweb://pacs/STUDY/SERIES/INSTANCE"),
        ("file://server/eye.jpg", "not of the form file:///DIR/NAME"),
        ("file:eye.jpg", "not of the form file:///DIR/NAME"),
        ("file:///eye.jpg#2", "has a fragment"),
        ("file:///stack.npy#-1", "has a fragment"),
        ("file:///stack.npy#07", "has a fragment"),
        ("file:///a%00b.jpg", "zero byte"),
        ("s3://clinic", "not of the form s3://BUCKET/KEY"),
        ("s3:///eye.jpg", "not of the form s3://BUCKET/KEY"),
        ("s3://user:password@clinic/eye.jpg", "not of the form s3://BUCKET/KEY"),
        ("s3://clinic/eye.jpg?versionId=1", "has a query"),
        ("s3://clinic/eye.jpg#1", "has a fragment"),
        ("x" * 4097, "4097 characters"),
    ],
)
def test_unsupported_uri_is_refused(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        canonical_uri(text, folder=FOLDER)


def test_canonical_path_keeps_symbolic_links(tmp_path: Path) -> None:
    (tmp_path / "volume").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "volume")

    assert canonical_path(tmp_path / "x" / ".." / "link") == tmp_path / "link"
