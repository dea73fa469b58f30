"""Read source images from `file://`, `s3://` and `dicomweb://` references."""

import errno
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import IO, TYPE_CHECKING

from worker.core.allowed_roots import AllowedRoots
from worker.core.dicomweb.client import Dataset, DicomwebClient
from worker.core.errors import ImageMissingError, ImageReferenceError, ImageTooLargeError, SettingsError, StorageError
from worker.core.storage.file_errors import translate_read_error
from worker.core.storage.object_store import ObjectContent
from worker.core.storage.s3_store import list_objects, probe_object, read_beginning, read_object
from worker.core.uris import PACS, InstancePath, parse_dicomweb_uri, parse_file_uri, parse_s3_uri, s3_uri, uri_scheme

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client
    from types_boto3_s3.type_defs import ObjectTypeDef

INVALID_PATH_ERRNOS = {errno.ENAMETOOLONG, errno.ELOOP}


class SourceReader:
    """Reads files, S3 objects and instances of the PACS, but only within `roots`; None allows every place."""

    def __init__(
        self,
        s3_client: Callable[[], "S3Client"],
        pacs_client: Callable[[], DicomwebClient],
        roots: AllowedRoots | None,
        *,
        transfer_timeout_s: float,
    ) -> None:
        """Takes functions that return the clients, so that reading files makes no client.

        transfer_timeout_s: limit on the time in which an object is read, in seconds.
        """
        self._transfer_timeout_s = transfer_timeout_s
        self._s3_client = s3_client
        self._pacs_client = pacs_client
        self._roots = roots

    def read(self, uri: str, *, max_bytes: int) -> ObjectContent:
        """Return the content of a reference; a DICOM file for an instance of the PACS.

        Raises ImageMissingError, ImageTooLargeError before the content is read, ImageReferenceError for an invalid
        reference or one outside the roots, ObjectRefusedError if the store refuses this object, and StorageError if it
        fails.
        """
        scheme = uri_scheme(uri)
        if scheme == "file":
            return ObjectContent(_read_file(parse_file_uri(uri), max_bytes, self._roots))
        if scheme == "s3":
            bucket, key = self._parse_object(uri)
            timeout_s = self._transfer_timeout_s
            return read_object(self._s3_client(), bucket, key, timeout_s=timeout_s, max_bytes=max_bytes)
        if scheme == "dicomweb":
            instance = self._parse_instance(uri)
            return ObjectContent(self._open_pacs().retrieve(instance, max_bytes=max_bytes))
        raise _unsupported(uri)

    def read_beginning(self, uri: str, size_bytes: int) -> bytes:
        """Return at most the first `size_bytes` of a `file://` or `s3://` reference. Raises as `read` does."""
        scheme = uri_scheme(uri)
        if scheme == "file":
            with _open_file(parse_file_uri(uri), self._roots) as file:
                return file.read(size_bytes)
        if scheme == "s3":
            return read_beginning(self._s3_client(), *self._parse_object(uri), size_bytes=size_bytes)
        raise _unsupported(uri)

    def read_instance_metadata(self, uri: str) -> Dataset:
        """Return the attributes of an instance of the PACS, in the DICOM JSON model. Raises as `read` does."""
        return self._open_pacs().metadata(self._parse_instance(uri))

    def probe(self, uri: str) -> None:
        """Check that the store serves an object, without reading its content. Raises as `read` does."""
        scheme = uri_scheme(uri)
        if scheme == "dicomweb":
            self._open_pacs().probe(self._parse_instance(uri))
        elif scheme == "file":
            with _open_file(parse_file_uri(uri), self._roots):
                pass
        else:
            probe_object(self._s3_client(), *self._parse_object(uri))

    def store_uri(self, uri: str) -> str:
        """Return the beginning that the URIs of one store share: a bucket, the PACS, or a mounted file system.

        Raises ImageReferenceError for an invalid reference.
        """
        scheme = uri_scheme(uri)
        if scheme == "file":
            return _with_slash(_find_mount(parse_file_uri(uri).parent).as_uri())
        if scheme == "s3":
            return s3_uri(parse_s3_uri(uri)[0], "")
        if scheme == "dicomweb":
            parse_dicomweb_uri(uri)
            return f"dicomweb://{PACS}/"
        raise _unsupported(uri)

    def resolve_file(self, uri: str) -> Path:
        """Return the path of a `file://` reference; with roots, symbolic links are resolved.

        Raises ImageReferenceError for an invalid reference or one outside the roots.
        """
        path = parse_file_uri(uri)
        return path if self._roots is None else self._roots.resolve_file(path)

    def list_objects(self, bucket: str, prefix: str) -> Iterator["ObjectTypeDef"]:
        """Yield the S3 objects below a prefix, page by page. Raises StorageError."""
        return list_objects(self._s3_client(), bucket, prefix)

    def _open_pacs(self) -> DicomwebClient:
        try:
            return self._pacs_client()
        except SettingsError as error:
            # Not the image's fault: another worker, or this one after a correction, can read it.
            raise StorageError(error.detail) from error

    def _parse_instance(self, uri: str) -> InstancePath:
        instance = parse_dicomweb_uri(uri)
        if self._roots is not None:
            self._roots.check_pacs()
        return instance

    def _parse_object(self, uri: str) -> tuple[str, str]:
        bucket, key = parse_s3_uri(uri)
        if self._roots is not None:
            self._roots.check_object(bucket, key)
        return bucket, key


def _unsupported(uri: str) -> ImageReferenceError:
    return ImageReferenceError(f"{uri!r} is not a file://, s3:// or dicomweb:// reference")


@lru_cache(maxsize=4096)
def _find_mount(folder: Path) -> Path:
    # The function of `os.path`, since `Path.is_mount` raises for a folder without permission.
    return next(parent for parent in (folder, *folder.parents) if os.path.ismount(parent))


def _with_slash(uri: str) -> str:
    return uri if uri.endswith("/") else f"{uri}/"


def _read_file(path: Path, max_bytes: int, roots: AllowedRoots | None) -> bytes:
    with _open_file(path, roots) as file:
        size = os.fstat(file.fileno()).st_size
        if size > max_bytes:
            raise ImageTooLargeError(f"{size} bytes, the limit is {max_bytes}")
        return file.read(max_bytes)


@contextmanager
def _open_file(path: Path, roots: AllowedRoots | None) -> Iterator[IO[bytes]]:
    """Open a regular file within the roots; errors of the block are translated, too."""
    if roots is not None:
        path = roots.resolve_file(path)
    try:
        # Opening a FIFO would block until it has a writer; O_NONBLOCK has no effect on regular files.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(descriptor, "rb") as file:  # noqa: PTH123 - pathlib takes no flags
            if roots is not None:
                # A symbolic link may have appeared since the path was resolved; check the file that is open.
                roots.resolve_file(Path(f"/proc/self/fd/{descriptor}"))
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise ImageMissingError(f"{path} is not a regular file")
            yield file
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
        raise ImageMissingError(f"no file at {path}") from error
    except OSError as error:
        if error.errno in INVALID_PATH_ERRNOS:
            raise ImageReferenceError(f"invalid path {path}: {error.strerror}") from error
        raise translate_read_error(path, error) from error
