"""List the image files of a folder and its subfolders."""

import errno
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from producer.sources.dicom_files import DicomFiles, may_be_dicom
from worker.core.errors import SourceError
from worker.core.manifests.canonical_uri import canonical_path
from worker.core.manifests.image_reference import ImageReference, OnWarning, file_etag, is_image_name
from worker.core.uris import file_uri


def list_folder_images(root: Path, on_warning: OnWarning, dicom_files: DicomFiles) -> Iterator[ImageReference]:
    """Yield references to the image files under `root`, depth first and sorted by name within each folder.

    dicom_files: selects DICOM files by content among files without an image suffix.
    Symbolic links are followed. A folder that is reached twice is read once, so loops end. The number of hidden files
    and of files without an image suffix is passed to `on_warning` at the end. Only the names in the folders on the
    current path are kept in memory. Raises SourceError for a folder that cannot be read.
    """
    root = canonical_path(root)
    ignored = reached_twice = 0
    seen = {_inode(root)}
    open_folders = [_entries(root)]
    while open_folders:
        path, is_folder, is_file = next(open_folders[-1], (None, False, False))
        if path is None:
            open_folders.pop()
        elif is_folder and not path.name.startswith("."):
            inode = _inode(path)
            if inode in seen:
                reached_twice += 1
            else:
                seen.add(inode)
                open_folders.append(_entries(path))
        elif is_file and is_image_name(path.name):
            yield _reference(path)
        elif is_file and may_be_dicom(path.name) and (instance := dicom_files.select(_reference(path))):
            yield instance
        else:
            ignored += 1
    if ignored:
        on_warning(f"not image files, ignored in {root}: {ignored}")
    dicom_files.report(f"in {root}", on_warning)
    if reached_twice:
        on_warning(f"links to folders that had already been read, ignored in {root}: {reached_twice}")


def _reference(path: Path) -> ImageReference:
    try:
        status = path.stat()
    except OSError:
        # Deleted since the folder was listed: the worker reports it as a failed image.
        return ImageReference(file_uri(path))
    return ImageReference(file_uri(path), etag=file_etag(status), modified_at=_timestamp(status.st_mtime))


def _timestamp(seconds: float) -> datetime | None:
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (OverflowError, OSError, ValueError):  # outside the years 1 to 9999
        return None


def _entries(folder: Path) -> Iterator[tuple[Path, bool, bool]]:
    """Return (path, is folder, is file) of each entry. The folder is closed before the first is yielded."""
    try:
        with os.scandir(folder) as entries:
            found = sorted((entry.name, *_kind(entry)) for entry in entries)
    except OSError as error:
        raise SourceError(f"cannot read folder {folder}: {error.strerror or error}") from error
    return ((folder / name, is_folder, is_file) for name, is_folder, is_file in found)


def _kind(entry: "os.DirEntry[str]") -> tuple[bool, bool]:
    try:
        return entry.is_dir(), entry.is_file()
    except OSError as error:
        if error.errno == errno.ELOOP:  # a link to itself
            return False, False
        raise


def _inode(folder: Path) -> tuple[int, int]:
    try:
        status = folder.stat()
    except OSError as error:
        raise SourceError(f"cannot read folder {folder}: {error.strerror or error}") from error
    return status.st_dev, status.st_ino
