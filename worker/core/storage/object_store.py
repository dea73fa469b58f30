"""Objects by key, in a folder or in a bucket, and the bytes that references point at."""

import errno
import os
import shutil
import stat
from collections.abc import Iterator, Mapping
from contextlib import closing
from functools import cached_property
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import unquote, urlsplit

import boto3
from boto3.exceptions import S3UploadFailedError
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError

from worker.core.allowed_roots import AllowedRoots
from worker.core.errors import ImageMissingError, ImageReferenceError, ImageTooLargeError, StorageError
from worker.core.settings import Settings
from worker.core.storage.atomic_write import copy_atomically, write_atomically
from worker.core.uris import parse_file_uri, parse_s3_uri, s3_uri, uri_scheme

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client
    from types_boto3_s3.type_defs import GetObjectOutputTypeDef, ObjectTypeDef

CACHE_CONTROL = "private, max-age=31536000, immutable"
"""Of what has one content for ever under its key."""
CHANGES = "private, no-cache"
"""Of what may be written anew."""
READ_ATTEMPTS = 3
NOT_THERE = {"404", "NoSuchKey", "NotFound", "NoSuchBucket"}
NEVER_A_FILE = {errno.ENAMETOOLONG, errno.ELOOP}
CONNECT_TIMEOUT_S = 5


class ObjectStore(Protocol):
    """Where overlays are kept. Every method raises StorageError when the store does not do its part."""

    def put(
        self, key: str, data: bytes, *, content_type: str, metadata: Mapping[str, str], cache: str = CACHE_CONTROL
    ) -> None:
        """Write one object whole, or not at all; writing it again is harmless."""

    def put_file(self, key: str, file: Path, *, content_type: str) -> None:
        """The same of a file, which need not fit into memory and may be written anew."""

    def get(self, key: str) -> bytes:
        """The object's bytes. Raises KeyError when there is none."""

    def delete(self, key: str) -> None:
        """Remove one object; none there is no error."""

    def delete_under(self, prefix: str) -> None:
        """Delete whatever lies under a prefix, which ends with a slash. Raises StorageError."""

    def uri(self, key: str) -> str:
        """The address of an object for people and other programs."""

    def link(self, key: str, *, seconds: int) -> str:
        """An address that a browser without credentials opens for so long."""


class FolderStore:
    """Objects as files under one folder."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def put(
        self,
        key: str,
        data: bytes,
        *,
        content_type: str,  # noqa: ARG002 - files keep none
        metadata: Mapping[str, str],  # noqa: ARG002
        cache: str = CACHE_CONTROL,  # noqa: ARG002
    ) -> None:
        """Write one file, whole."""
        target = self._path(key)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(target, data)
        except OSError as error:
            raise StorageError(f"cannot write {target}: {error.strerror or error}") from error

    def put_file(self, key: str, file: Path, *, content_type: str) -> None:  # noqa: ARG002 - files keep none
        """Copy one file, whole."""
        target = self._path(key)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            copy_atomically(target, file)
        except OSError as error:
            raise StorageError(f"cannot write {target}: {error.strerror or error}") from error

    def get(self, key: str) -> bytes:
        """Read one file."""
        try:
            return self._path(key).read_bytes()
        except FileNotFoundError:
            raise KeyError(key) from None
        except OSError as error:
            raise StorageError(f"cannot read {self._path(key)}: {error.strerror or error}") from error

    def delete(self, key: str) -> None:
        """Unlink one file."""
        try:
            self._path(key).unlink(missing_ok=True)
        except OSError as error:
            raise StorageError(f"cannot delete {self._path(key)}: {error.strerror or error}") from error

    def delete_under(self, prefix: str) -> None:
        """Remove one folder."""
        try:
            shutil.rmtree(self._path(prefix))
        except FileNotFoundError:
            pass
        except OSError as error:
            raise StorageError(f"cannot delete {self._path(prefix)}: {error.strerror or error}") from error

    def uri(self, key: str) -> str:
        """A `file://` address."""
        return self._path(key).as_uri()

    def link(self, key: str, *, seconds: int) -> str:  # noqa: ARG002 - a file's does not end
        """A `file://` address."""
        return self.uri(key)

    def _path(self, key: str) -> Path:
        if key.startswith("/") or ".." in key.split("/"):
            raise ValueError(f"object key {key!r} leaves the store")
        return self.root / key


class BucketStore:
    """Objects under one prefix of an S3 bucket."""

    def __init__(self, client: "S3Client", bucket: str, prefix: str) -> None:
        self._client = client
        self._bucket = bucket
        self._prefix = prefix.strip("/")

    def put(
        self, key: str, data: bytes, *, content_type: str, metadata: Mapping[str, str], cache: str = CACHE_CONTROL
    ) -> None:
        """One PUT; boto3 retries it and the store checks its checksum."""
        try:
            self._client.put_object(
                Bucket=self._bucket,
                Key=self._full(key),
                Body=data,
                ContentType=content_type,
                CacheControl=cache,
                Metadata=dict(metadata),
            )
        except (ClientError, BotoCoreError) as error:
            raise StorageError(f"cannot write {self.uri(key)}: {_reason(error)}") from error

    def put_file(self, key: str, file: Path, *, content_type: str) -> None:
        """One PUT, or of a large file several parts."""
        extra = {"ContentType": content_type, "CacheControl": CHANGES}
        try:
            self._client.upload_file(str(file), self._bucket, self._full(key), ExtraArgs=extra)
        except (ClientError, BotoCoreError, S3UploadFailedError) as error:
            raise StorageError(f"cannot write {self.uri(key)}: {_reason(error)}") from error

    def get(self, key: str) -> bytes:
        """One GET."""
        try:
            return _read_object(self._client, self._bucket, self._full(key))
        except ImageMissingError:
            raise KeyError(key) from None

    def delete(self, key: str) -> None:
        """One DELETE."""
        try:
            self._client.delete_object(Bucket=self._bucket, Key=self._full(key))
        except (ClientError, BotoCoreError) as error:
            raise StorageError(f"cannot delete {self.uri(key)}: {_reason(error)}") from error

    def delete_under(self, prefix: str) -> None:
        """A listing, and one DELETE for each object."""
        full = self._full(prefix)
        try:
            for page in self._client.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=full):
                for item in page.get("Contents", ()):
                    self._client.delete_object(Bucket=self._bucket, Key=item["Key"])
        except (ClientError, BotoCoreError) as error:
            raise StorageError(f"cannot delete {self.uri(prefix)}: {_reason(error)}") from error

    def uri(self, key: str) -> str:
        """An `s3://` address."""
        return s3_uri(self._bucket, self._full(key))

    def link(self, key: str, *, seconds: int) -> str:
        """A presigned address. Raises StorageError without credentials."""
        try:
            return self._client.generate_presigned_url(
                "get_object", Params={"Bucket": self._bucket, "Key": self._full(key)}, ExpiresIn=seconds
            )
        except (ClientError, BotoCoreError) as error:
            raise StorageError(f"cannot sign {self.uri(key)}: {_reason(error)}") from error

    def _full(self, key: str) -> str:
        return f"{self._prefix}/{key}" if self._prefix else key


class Storage:
    """Storage as the settings name it; its S3 client is made on first use and shared by all threads."""

    def __init__(self, settings: Settings, *, connections: int = 10) -> None:
        self._settings = settings
        self._connections = connections

    @cached_property
    def client(self) -> "S3Client":
        """Signed with v4, bounded in time, retried by boto3 in standard mode."""
        settings = self._settings
        client: S3Client = boto3.session.Session().client(
            "s3",
            endpoint_url=settings.s3_endpoint_url,
            region_name=settings.s3_region,
            config=Config(
                signature_version="s3v4",
                connect_timeout=CONNECT_TIMEOUT_S,
                read_timeout=settings.s3_timeout_s,
                retries={"mode": "standard", "total_max_attempts": 4},
                max_pool_connections=self._connections,
                request_checksum_calculation=settings.s3_checksums,
                response_checksum_validation=settings.s3_checksums,
                s3={"addressing_style": "path"} if settings.s3_endpoint_url else {},
            ),
        )
        client.meta.events.register_last("before-call.s3", _send_at_once)
        return client

    @cached_property
    def overlays(self) -> ObjectStore:
        """The store of FUNDUS_STORAGE_URL."""
        parts = urlsplit(self._settings.storage_url)
        if parts.scheme == "file":
            return FolderStore(Path(unquote(parts.path)))
        return BucketStore(self.client, parts.netloc, parts.path)

    def read(self, uri: str, *, max_bytes: int) -> bytes:
        """The bytes of a `file://` or `s3://` reference.

        Raises ImageMissingError, ImageTooLargeError (the size is checked before the body is read),
        ImageReferenceError for one that can lead nowhere or out of FUNDUS_SOURCE_ROOTS, and StorageError when the store
        does not do its part.
        """
        scheme = uri_scheme(uri)
        if scheme == "file":
            return _read_file(parse_file_uri(uri), max_bytes, self._settings.allowed_roots)
        if scheme == "s3":
            bucket, key = parse_s3_uri(uri)
            if (roots := self._settings.allowed_roots) is not None:
                roots.check_object(bucket, key)
            return _read_object(self.client, bucket, key, max_bytes)
        raise ImageReferenceError(f"{uri!r} is neither a file:// nor an s3:// reference")

    def locate(self, uri: str) -> Path:
        """The file of a `file://` reference, without links. Raises ImageReferenceError for one that may not be read."""
        path = parse_file_uri(uri)
        roots = self._settings.allowed_roots
        return path if roots is None else roots.resolve_file(path)

    def list_bucket(self, bucket: str, prefix: str) -> Iterator["ObjectTypeDef"]:
        """The objects under a prefix, a page at a time. Raises StorageError."""
        try:
            for page in self.client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
                yield from page.get("Contents", ())
        except (ClientError, BotoCoreError) as error:
            raise StorageError(f"cannot list s3://{bucket}/{prefix}: {_reason(error)}") from error


def _read_file(path: Path, max_bytes: int, roots: AllowedRoots | None) -> bytes:
    if roots is not None:
        path = roots.resolve_file(path)
    try:
        # Opening a pipe would wait for its writer for ever; a regular file does not mind the flag.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(descriptor, "rb") as file:  # noqa: PTH123 - pathlib takes no flags
            if roots is not None:
                # A link may have been put in the path since it was resolved; what is open now stays what it is.
                roots.resolve_file(Path(f"/proc/self/fd/{descriptor}"))
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise ImageMissingError(f"{path} is no regular file")
            if status.st_size > max_bytes:
                raise ImageTooLargeError(f"{status.st_size} bytes, the limit is {max_bytes}")
            return file.read(max_bytes)
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
        raise ImageMissingError(f"no file at {path}") from error
    except OSError as error:
        if error.errno in NEVER_A_FILE:
            raise ImageReferenceError(f"no file can be at {path}: {error.strerror}") from error
        raise StorageError(f"cannot read {path}: {error.strerror or error}") from error


def _read_object(client: "S3Client", bucket: str, key: str, max_bytes: int | None = None) -> bytes:
    address = f"s3://{bucket}/{key}"
    for _ in range(READ_ATTEMPTS):
        answer = _open_object(client, bucket, key)
        with closing(answer["Body"]) as body:
            size = answer["ContentLength"]
            if max_bytes is not None and size > max_bytes:
                raise ImageTooLargeError(f"{size} bytes, the limit is {max_bytes}")
            try:
                return bytes(body.read())
            except HTTPClientError as error:
                # boto3 retries a request, but not a body that is cut while it is read.
                broken_off = error
            except BotoCoreError as error:
                raise StorageError(f"cannot read {address}: {_reason(error)}") from error
    raise StorageError(f"cannot read {address}: broke off {READ_ATTEMPTS} times: {_reason(broken_off)}") from broken_off


def _open_object(client: "S3Client", bucket: str, key: str) -> "GetObjectOutputTypeDef":
    address = f"s3://{bucket}/{key}"
    try:
        return client.get_object(Bucket=bucket, Key=key)
    except ClientError as error:
        if error.response.get("Error", {}).get("Code", "") in NOT_THERE:
            raise ImageMissingError(f"no object at {address}: {_reason(error)}") from error
        raise StorageError(f"cannot read {address}: {_reason(error)}") from error
    except BotoCoreError as error:
        raise StorageError(f"cannot read {address}: {_reason(error)}") from error


def _send_at_once(params: dict[str, Any], **_: object) -> None:
    """Send what is in memory together with its head.

    Asking first whether it may come (Expect: 100-continue) costs a round trip, whose end is read byte by byte.
    """
    if isinstance(params.get("body"), BytesIO):
        params["headers"].pop("Expect", None)


def _reason(error: Any) -> str:
    """The store's code, or the client's class: never an address with a signature or a header."""
    if isinstance(error, ClientError):
        answer = error.response
        status = answer.get("ResponseMetadata", {}).get("HTTPStatusCode", "?")
        return f"{answer.get('Error', {}).get('Code', '?')} (HTTP {status})"
    return type(error).__name__
