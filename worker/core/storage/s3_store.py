"""Object store in an S3 bucket, and the S3 calls that read source images."""

import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import closing
from io import BytesIO
from pathlib import Path
from time import monotonic
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import boto3
from boto3.exceptions import S3UploadFailedError
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError

from worker import __version__
from worker.core.batches import batched
from worker.core.errors import ImageMissingError, ImageTooLargeError, ObjectRefusedError, StorageError
from worker.core.settings import Settings
from worker.core.storage.object_store import CACHE_IMMUTABLE, CACHE_REVALIDATE, ObjectContent, StoredObject
from worker.core.storage.transfer_timeout import limit_time
from worker.core.uris import s3_uri

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client
    from types_boto3_s3.type_defs import GetObjectOutputTypeDef, ObjectIdentifierTypeDef, ObjectTypeDef

READ_ATTEMPTS = 3
REQUEST_ATTEMPTS = 4
CONNECT_TIMEOUT_S = 5
KEYS_PER_REQUEST = 1000
"""The most keys that S3 deletes in one request."""
EMPTY_CODES = {"InvalidRange", "416"}
"""Of a store that is asked for the beginning of an empty object."""
MISSING_CODES = {"404", "NoSuchKey", "NotFound", "NoSuchBucket"}
CHANGED_CODES = {"412", "PreconditionFailed", "ConditionalRequestConflict", "NoSuchKey"}
"""Error codes of a conditional write whose condition is not met; NoSuchKey: the expected object was deleted."""
UNSUPPORTED_CODES = {"501", "NotImplemented"}
CREDENTIAL_CODES = {
    "AccountProblem", "AuthorizationHeaderMalformed", "ExpiredToken", "ExpiredTokenException", "InvalidAccessKeyId",
    "InvalidSecurity", "InvalidToken", "NotSignedUp", "OptInRequired", "RequestExpired", "RequestTimeTooSkewed",
    "SignatureDoesNotMatch", "TokenRefreshRequired", "UnrecognizedClientException",
}  # fmt: skip
"""Error codes with status 4xx that concern keys, clock or account, and so every request."""
TEMPORARY_CODES = {"OperationAborted", "RequestTimeout", "SlowDown"}
TEMPORARY_STATUSES = {408, 425, 429}

CLIENT_FAILURES = {
    "NoCredentialsError": "no access key; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or give the machine a role",
    "PartialCredentialsError": "half an access key; set both AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
    "ProfileNotFound": "no such profile; correct AWS_PROFILE",
    "NoRegionError": "no region; set AWS_DEFAULT_REGION",
    "EndpointConnectionError": "no store answers; is FUNDUS_S3_ENDPOINT_URL right, and does the store run?",
    "ConnectTimeoutError": "the store did not accept the connection in time",
    "ReadTimeoutError": "the store did not answer in time",
    "ConnectionClosedError": "the store closed the connection",
    "SSLError": "the certificate of the store is not trusted; set AWS_CA_BUNDLE to that of its authority",
}
"""Failures of the client by exception class; their own messages may contain URLs."""


class S3Store:
    """An ObjectStore whose keys are relative to one prefix of a bucket."""

    def __init__(self, client: "S3Client", bucket: str, prefix: str, *, transfer_timeout_s: float) -> None:
        self._transfer_timeout_s = transfer_timeout_s
        self._client = client
        self._bucket = bucket
        self._prefix = prefix.strip("/")
        # None until the first conditional write shows whether the store honours conditions.
        self._has_conditions: bool | None = None

    def put(
        self,
        key: str,
        data: bytes,
        *,
        content_type: str,
        metadata: Mapping[str, str],
        cache_control: str = CACHE_IMMUTABLE,
    ) -> None:
        """Write one object in one request; boto3 retries it and the store verifies the checksum."""
        try:
            self._put(key, data, content_type, metadata, cache_control)
        except (ClientError, BotoCoreError) as error:
            raise StorageError(f"cannot write {self.uri(key)}: {_reason(error)}") from error

    def put_if_unchanged(
        self, key: str, data: bytes, *, version: str | None, content_type: str, metadata: Mapping[str, str]
    ) -> bool:
        """Write one object with the header If-None-Match or If-Match.

        A store that ignores or refuses them gets a check and a write, in two requests.
        """
        condition = {"IfNoneMatch": "*"} if version is None else {"IfMatch": version}
        try:
            if self._has_conditions is False:
                if self.version(key) != version:
                    return False
                condition = {}
            self._put(key, data, content_type, metadata, CACHE_IMMUTABLE, condition)
            if self._has_conditions is None and version is None:
                # The object exists now, so a store that honours the condition refuses the same request.
                self._has_conditions = not self._put_again(key, data, content_type, metadata, condition)
        except ClientError as error:
            code = error.response.get("Error", {}).get("Code", "")
            if code in CHANGED_CODES:
                return False
            if code in UNSUPPORTED_CODES and condition:
                self._has_conditions = False
                return self.put_if_unchanged(key, data, version=version, content_type=content_type, metadata=metadata)
            raise StorageError(f"cannot write {self.uri(key)}: {_reason(error)}") from error
        except BotoCoreError as error:
            raise StorageError(f"cannot write {self.uri(key)}: {_reason(error)}") from error
        return True

    def version(self, key: str) -> str | None:
        """Return the object's ETag."""
        try:
            response = self._client.head_object(Bucket=self._bucket, Key=self._full_key(key))
        except ClientError as error:
            if error.response.get("Error", {}).get("Code", "") in MISSING_CODES:
                return None
            raise StorageError(f"cannot read {self.uri(key)}: {_reason(error)}") from error
        except BotoCoreError as error:
            raise StorageError(f"cannot read {self.uri(key)}: {_reason(error)}") from error
        return str(_read_header(response, "ETag", self.uri(key)))

    def put_file(self, key: str, file: Path, *, content_type: str) -> None:
        """Upload one file, in several parts if it is large."""
        extra = {"ContentType": content_type, "CacheControl": CACHE_REVALIDATE}
        try:
            self._client.upload_file(str(file), self._bucket, self._full_key(key), ExtraArgs=extra)
        except (ClientError, BotoCoreError, S3UploadFailedError) as error:
            raise StorageError(f"cannot write {self.uri(key)}: {_reason(error)}") from error

    def get(self, key: str) -> bytes:
        """Read one object. Raises KeyError if it does not exist."""
        try:
            return read_object(self._client, self._bucket, self._full_key(key), timeout_s=self._transfer_timeout_s).data
        except ImageMissingError:
            raise KeyError(key) from None

    def delete(self, key: str) -> None:
        """Delete one object if it exists."""
        try:
            self._client.delete_object(Bucket=self._bucket, Key=self._full_key(key))
        except (ClientError, BotoCoreError) as error:
            raise StorageError(f"cannot delete {self.uri(key)}: {_reason(error)}") from error

    def delete_many(self, keys: Collection[str]) -> Mapping[str, str]:
        """Delete the objects that exist, KEYS_PER_REQUEST in one request; return the error code of each refused one."""
        refused: dict[str, str] = {}
        start = len(self._full_key(""))
        for batch in batched(keys, KEYS_PER_REQUEST):
            named: list[ObjectIdentifierTypeDef] = [{"Key": self._full_key(key)} for key in batch]
            try:
                done = self._client.delete_objects(Bucket=self._bucket, Delete={"Objects": named, "Quiet": True})
            except (ClientError, BotoCoreError) as error:
                raise StorageError(f"cannot delete {self.uri(batch[0])} and others: {_reason(error)}") from error
            refused |= {error["Key"][start:]: error.get("Code", "?") for error in done.get("Errors", ())}
        return refused

    def list_objects(self, prefix: str) -> Iterator[StoredObject]:
        """Yield the objects below the prefix, page by page."""
        start = len(self._full_key(""))
        for item in list_objects(self._client, self._bucket, self._full_key(prefix)):
            yield StoredObject(item["Key"][start:], item["LastModified"])

    def delete_prefix(self, prefix: str) -> None:
        """List the objects below the prefix and delete them."""
        for batch in batched(self.list_objects(prefix), KEYS_PER_REQUEST):
            for key, code in self.delete_many([item.key for item in batch]).items():
                raise StorageError(f"cannot delete {self.uri(key)}: {code}")

    def uri(self, key: str) -> str:
        """Return the `s3://` URI of an object."""
        return s3_uri(self._bucket, self._full_key(key))

    def download_url(self, key: str, *, expires_s: int) -> str:
        """Return a presigned URL. Raises StorageError without credentials."""
        try:
            return self._client.generate_presigned_url(
                "get_object", Params={"Bucket": self._bucket, "Key": self._full_key(key)}, ExpiresIn=expires_s
            )
        except (ClientError, BotoCoreError) as error:
            raise StorageError(f"cannot sign {self.uri(key)}: {_reason(error)}") from error

    def _put(
        self,
        key: str,
        data: bytes,
        content_type: str,
        metadata: Mapping[str, str],
        cache_control: str,
        condition: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self._client.put_object(
            Bucket=self._bucket,
            Key=self._full_key(key),
            Body=data,
            ContentType=content_type,
            CacheControl=cache_control,
            Metadata=dict(metadata),
            **condition,  # type: ignore[arg-type]  # IfMatch or IfNoneMatch
        )

    def _put_again(
        self, key: str, data: bytes, content_type: str, metadata: Mapping[str, str], condition: Mapping[str, str]
    ) -> bool:
        """Return whether the store writes an object in spite of the condition."""
        try:
            self._put(key, data, content_type, metadata, CACHE_IMMUTABLE, condition)
        except ClientError as error:
            if error.response.get("Error", {}).get("Code", "") in CHANGED_CODES:
                return False
            raise
        return True

    def _full_key(self, key: str) -> str:
        return f"{self._prefix}/{key}" if self._prefix else key


def make_s3_client(settings: Settings, *, connections: int, request_attempts: int = REQUEST_ATTEMPTS) -> "S3Client":
    """Make a thread-safe client with signature v4, timeouts and boto3's standard retries.

    request_attempts: how often a request is sent; boto3 waits between them in the calling thread.
    """
    client: S3Client = boto3.session.Session().client(
        "s3",
        endpoint_url=settings.s3_endpoint_url,
        region_name=settings.s3_region,
        config=Config(
            signature_version="s3v4",
            # botocore would compose its own text for every request, twice.
            user_agent=f"fundus-grading/{__version__}",
            connect_timeout=CONNECT_TIMEOUT_S,
            read_timeout=settings.s3_timeout_s,
            retries={"mode": "standard", "total_max_attempts": request_attempts},
            max_pool_connections=connections,
            request_checksum_calculation=settings.s3_checksums,
            response_checksum_validation=settings.s3_checksums,
            s3={"addressing_style": "path"} if settings.s3_endpoint_url else {},
        ),
    )
    client.meta.events.register_last("before-call.s3", _send_without_expect)
    return client


def read_object(
    client: "S3Client", bucket: str, key: str, *, timeout_s: float, max_bytes: int | None = None
) -> ObjectContent:
    """Read one object; an interrupted body is read again, up to READ_ATTEMPTS times.

    timeout_s: limit on the time of all attempts, in seconds, which a store that sends a byte now and then also reaches.

    Raises ImageMissingError, ObjectRefusedError or another StorageError, and ImageTooLargeError, before the body is
    read, above `max_bytes`.
    """
    uri = f"s3://{bucket}/{key}"
    ends_at = monotonic() + timeout_s
    for _ in range(READ_ATTEMPTS):
        response = _get_object(client, bucket, key)
        with closing(response["Body"]) as body:
            size = int(_read_header(response, "ContentLength", uri))
            if max_bytes is not None and size > max_bytes:
                raise ImageTooLargeError(f"{size} bytes, the limit is {max_bytes}")
            try:
                # botocore does not expose the response of urllib3.
                response_body = body._raw_stream  # type: ignore[attr-defined]  # noqa: SLF001
                with limit_time(response_body, ends_at - monotonic()):
                    return ObjectContent(bytes(body.read()), _version_of(response))
            except HTTPClientError as error:
                # boto3 retries requests, but not a body that is interrupted while it is read.
                interruption = error
            except BotoCoreError as error:
                raise StorageError(f"cannot read {uri}: {_reason(error)}") from error
        if monotonic() >= ends_at:
            raise StorageError(f"cannot read {uri}: incomplete after {timeout_s:g} s") from interruption
    raise StorageError(
        f"cannot read {uri}: interrupted {READ_ATTEMPTS} times: {_reason(interruption)}"
    ) from interruption


def read_beginning(client: "S3Client", bucket: str, key: str, *, size_bytes: int) -> bytes:
    """Return at most the first `size_bytes` of one object. Raises as `read_object` does."""
    try:
        response = _get_object(client, bucket, key, Range=f"bytes=0-{size_bytes - 1}")
    except StorageError as error:
        cause = error.__cause__
        if isinstance(cause, ClientError) and cause.response.get("Error", {}).get("Code") in EMPTY_CODES:
            return b""
        raise
    with closing(response["Body"]) as body:
        try:
            return bytes(body.read(size_bytes))
        except (BotoCoreError, HTTPClientError) as error:
            raise StorageError(f"cannot read s3://{bucket}/{key}: {_reason(error)}") from error


def probe_object(client: "S3Client", bucket: str, key: str) -> None:
    """Request one object without reading its body. Raises ImageMissingError, ObjectRefusedError or StorageError."""
    _get_object(client, bucket, key)["Body"].close()


def list_objects(client: "S3Client", bucket: str, prefix: str) -> Iterator["ObjectTypeDef"]:
    """Yield the objects below a prefix, page by page. Raises StorageError."""
    try:
        for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
            yield from page.get("Contents", ())
    except (ClientError, BotoCoreError) as error:
        raise StorageError(f"cannot list s3://{bucket}/{prefix}: {_reason(error)}") from error


def _get_object(client: "S3Client", bucket: str, key: str, **part: str) -> "GetObjectOutputTypeDef":
    uri = f"s3://{bucket}/{key}"
    try:
        return client.get_object(Bucket=bucket, Key=key, **part)  # type: ignore[arg-type]
    except ClientError as error:
        if error.response.get("Error", {}).get("Code", "") in MISSING_CODES:
            raise ImageMissingError(f"no object at {uri}: {_reason(error)}") from error
        kind = ObjectRefusedError if _is_refusal(error) else StorageError
        raise kind(f"cannot read {uri}: {_reason(error)}") from error
    except BotoCoreError as error:
        raise StorageError(f"cannot read {uri}: {_reason(error)}") from error


def _read_header(response: Mapping[str, Any], name: str, uri: str) -> Any:
    """Return a header of S3. Raises StorageError without it: it was damaged on the way, and can be requested again."""
    if name not in response:
        raise StorageError(f"cannot read {uri}: the answer has no {name}")
    return response[name]


def _is_refusal(error: ClientError) -> bool:
    """Whether the answer concerns this object: AccessDenied, InvalidObjectState (archived), KMS errors and others."""
    code = error.response.get("Error", {}).get("Code", "")
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    is_temporary = status in TEMPORARY_STATUSES or code in TEMPORARY_CODES or "Throttl" in code
    return 400 <= status < 500 and not is_temporary and code not in CREDENTIAL_CODES


def _version_of(response: "GetObjectOutputTypeDef") -> str | None:
    """Return the version id; None without one, and for `null`, which the next write overwrites."""
    version = response.get("VersionId")
    return None if version == "null" else version


def _send_without_expect(params: dict[str, Any], **_: object) -> None:
    """Send a body that is in memory together with the request's head.

    With `Expect: 100-continue`, botocore waits one round trip and reads the interim response byte by byte.
    """
    if isinstance(params.get("body"), BytesIO):
        params["headers"].pop("Expect", None)


def _reason(error: Any) -> str:
    """Return the store's error code or the client's failure in words, never a signed URL or a header."""
    if isinstance(error, ClientError):
        response = error.response
        status = response.get("ResponseMetadata", {}).get("HTTPStatusCode", "?")
        return f"{response.get('Error', {}).get('Code', '?')} (HTTP {status})"
    name = type(error).__name__
    return CLIENT_FAILURES.get(name, re.sub("(?<=[a-z])(?=[A-Z])", " ", name).lower())
