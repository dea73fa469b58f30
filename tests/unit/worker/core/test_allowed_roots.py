import os
from pathlib import Path

import pytest

from worker.core.allowed_roots import AllowedRoots, parse_allowed_roots
from worker.core.errors import ImageReferenceError


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder with an image and links that point out of it; a sibling folder shares the prefix of its name."""
    root = tmp_path / "clinic"
    (root / "sub").mkdir(parents=True)
    (tmp_path / "clinic-secret").mkdir()
    for path in (root / "eye.jpg", tmp_path / "clinic-secret" / "eye.jpg"):
        path.write_bytes(b"x")
    (root / "link.jpg").symlink_to(tmp_path / "clinic-secret" / "eye.jpg")
    (root / "linked").symlink_to(tmp_path / "clinic-secret")
    (root / "inward.jpg").symlink_to(root / "eye.jpg")
    return root


@pytest.mark.parametrize(
    "name", ["eye.jpg", "sub/../eye.jpg", "inward.jpg", "not-there.jpg", "%2e%2e", "\uff0e\uff0e/eye.jpg"]
)
def test_path_inside_a_root_is_resolved(root: Path, name: str) -> None:
    expected = root / ("eye.jpg" if name in ("sub/../eye.jpg", "inward.jpg") else name)
    assert AllowedRoots((root,)).resolve_file(root / name) == expected


@pytest.mark.parametrize(
    "name",
    ["..", "../clinic-secret/eye.jpg", "sub/../../clinic-secret/eye.jpg", "/etc/passwd", "link.jpg", "linked/eye.jpg"],
)
def test_path_outside_the_roots_is_refused(root: Path, name: str) -> None:
    with pytest.raises(ImageReferenceError, match="is outside the allowed folders") as caught:
        AllowedRoots((root,)).resolve_file(root / name)
    assert caught.value.code == "reference_not_allowed"


def test_other_unicode_form_of_a_folder_is_another_folder(tmp_path: Path) -> None:
    composed, decomposed = tmp_path / "caf\u00e9", tmp_path / "cafe\u0301"
    with pytest.raises(ImageReferenceError):
        AllowedRoots((composed,)).resolve_file(decomposed / "eye.jpg")


def test_zero_byte_is_refused(root: Path) -> None:
    with pytest.raises(ImageReferenceError, match="invalid path"):
        AllowedRoots((root,)).resolve_file(Path(f"{root}/eye.jpg\0.png"))


def test_root_may_be_a_symbolic_link(root: Path, tmp_path: Path) -> None:
    (tmp_path / "volume").symlink_to(root)
    assert AllowedRoots((tmp_path / "volume",)).resolve_file(tmp_path / "volume" / "eye.jpg") == root / "eye.jpg"


def test_root_may_be_the_whole_file_system(root: Path) -> None:
    assert AllowedRoots((Path("/"),)).resolve_file(root / "link.jpg") == Path(os.path.realpath(root / "link.jpg"))


@pytest.mark.parametrize(
    ("bucket", "key"), [("clinic", "2026/eye.jpg"), ("clinic", "2026/a/b..c.jpg"), ("open", "any/eye.jpg")]
)
def test_object_under_a_prefix_is_allowed(bucket: str, key: str) -> None:
    AllowedRoots((), (("clinic", "2026/"), ("open", ""))).check_object(bucket, key)


@pytest.mark.parametrize(
    ("bucket", "key"),
    [
        ("clinic", "2026-secret/eye.jpg"),
        ("clinic", "eye.jpg"),
        ("clinic", "2026/../eye.jpg"),
        ("clinic", "2026/./eye.jpg"),
        ("Clinic", "2026/eye.jpg"),
        ("clinic2", "2026/eye.jpg"),
        ("open", "../clinic/eye.jpg"),
    ],
)
def test_object_outside_the_prefixes_is_refused(bucket: str, key: str) -> None:
    with pytest.raises(ImageReferenceError) as caught:
        AllowedRoots((), (("clinic", "2026/"), ("open", ""))).check_object(bucket, key)
    assert caught.value.code == "reference_not_allowed"


def test_folders_and_prefixes_are_parsed() -> None:
    assert parse_allowed_roots("/images, s3://clinic/2026/ ,s3://open,") == AllowedRoots(
        (Path("/images"),), (("clinic", "2026/"), ("open", ""))
    )
    assert parse_allowed_roots(" ") is None


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("images", "'images' is not an absolute folder, s3://BUCKET/PREFIX or dicomweb://pacs"),
        ("https://host/x", "is not an absolute folder"),
        ("s3://", "'s3://' is not of the form"),
        ("s3://user:secret@bucket/x", "is not of the form"),
    ],
)
def test_invalid_root_is_refused(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        parse_allowed_roots(text)


def test_pacs_is_allowed_only_by_its_name() -> None:
    with_pacs, without = parse_allowed_roots("/images, dicomweb://pacs"), parse_allowed_roots("/images")
    assert with_pacs is not None
    assert without is not None

    with_pacs.check_pacs()
    assert with_pacs.folders == (Path("/images"),)
    with pytest.raises(ImageReferenceError, match="dicomweb://pacs is not among the allowed places") as caught:
        without.check_pacs()
    assert caught.value.code == "reference_not_allowed"
