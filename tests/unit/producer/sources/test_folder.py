import os
from pathlib import Path

import pytest

from producer.sources.dicom_files import DicomFiles
from producer.sources.folder import list_folder_images
from worker.core.errors import SourceError
from worker.core.manifests.admission import AdmissionPolicy
from worker.core.manifests.image_reference import ImageReference
from worker.core.settings import parse_settings
from worker.core.storage.storage import Storage


def make_dicom_files() -> DicomFiles:
    return DicomFiles(Storage(parse_settings()).sources, AdmissionPolicy())


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def list_relative(root: Path) -> tuple[list[str], list[str]]:
    warnings: list[str] = []
    uris = [
        reference.uri.removeprefix(root.as_uri() + "/")
        for reference in list_folder_images(root, warnings.append, make_dicom_files())
    ]
    return uris, warnings


def test_images_are_sorted_and_depth_first(tmp_path: Path) -> None:
    touch(tmp_path, "b.jpg", "a/2.PNG", "a/10.jpg", "c/d/e.tif", "a.jpg")

    assert list_relative(tmp_path) == (["a/10.jpg", "a/2.PNG", "a.jpg", "b.jpg", "c/d/e.tif"], [])


def test_other_and_hidden_files_are_counted(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg", "labels.csv", "._a.jpg", ".thumbnails/a.jpg", "sub/Thumbs.db")

    assert list_relative(tmp_path) == (["a.jpg"], [f"not image files, ignored in {tmp_path}: 4"])


def test_loop_of_links_ends(tmp_path: Path) -> None:
    touch(tmp_path, "a/eye.jpg")
    (tmp_path / "a" / "up").symlink_to(tmp_path)

    uris, warnings = list_relative(tmp_path)

    assert uris == ["a/eye.jpg"]
    assert warnings == [f"links to folders that had already been read, ignored in {tmp_path}: 1"]


def test_link_to_itself_and_dangling_link_are_not_images(tmp_path: Path) -> None:
    touch(tmp_path, "eye.jpg")
    (tmp_path / "loop.jpg").symlink_to(tmp_path / "loop.jpg")
    (tmp_path / "gone.jpg").symlink_to(tmp_path / "nothing.jpg")

    assert list_relative(tmp_path) == (["eye.jpg"], [f"not image files, ignored in {tmp_path}: 2"])


def test_linked_folder_keeps_the_name_of_the_link(tmp_path: Path) -> None:
    touch(tmp_path, "elsewhere/eye.jpg")
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "november").symlink_to(tmp_path / "elsewhere")

    assert list_relative(tmp_path / "source")[0] == ["november/eye.jpg"]


def test_pipe_with_the_name_of_an_image_is_ignored(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")

    assert list_relative(tmp_path)[0] == []


def test_same_folder_by_another_path_gives_the_same_references(tmp_path: Path) -> None:
    touch(tmp_path, "a/eye.jpg", "b/x.jpg")

    direct = list(list_folder_images(tmp_path / "a", print, make_dicom_files()))

    assert direct == list(list_folder_images(tmp_path / "b" / ".." / "a", print, make_dicom_files()))
    assert direct == [ImageReference((tmp_path / "a" / "eye.jpg").as_uri())]


def test_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=f"cannot read folder {tmp_path / 'none'}: No such file"):
        next(list_folder_images(tmp_path / "none", print, make_dicom_files()))
