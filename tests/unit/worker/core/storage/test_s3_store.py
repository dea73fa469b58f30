from pathlib import Path

import pytest
from botocore.awsrequest import AWSPreparedRequest

from tests.services.fault_proxy import Fault, FaultProxy
from tests.services.seaweedfs import Bucket, refuse_objects
from worker.core.errors import ObjectRefusedError, StorageError
from worker.core.settings import parse_settings
from worker.core.storage.object_store import CACHE_IMMUTABLE
from worker.core.storage.storage import Storage
from worker.core.uris import s3_uri

PNG = {"content_type": "image/png", "metadata": {}}
LARGE = bytes(range(256)) * 4096


def test_object_has_content_type_cache_control_and_metadata(bucket: Bucket) -> None:
    Storage(parse_settings()).overlays.put(
        "image.jpg", b"x", content_type="image/jpeg", metadata={"run": "july", "grade": "3"}
    )
    head = bucket.client.head_object(Bucket=bucket.name, Key="overlays/image.jpg")
    assert head["ContentType"] == "image/jpeg"
    assert head["CacheControl"] == CACHE_IMMUTABLE == "private, max-age=31536000, immutable"
    assert head["Metadata"] == {"run": "july", "grade": "3"}
    assert "ContentEncoding" not in head


def test_bytes_are_sent_without_expect_header_and_files_with_it(bucket: Bucket, tmp_path: Path) -> None:
    storage, expects = Storage(parse_settings()), []

    def record(request: AWSPreparedRequest, **_: object) -> None:
        expects.append("Expect" in request.headers)

    storage.client.meta.events.register("before-send.s3", record)
    (tmp_path / "report.html").write_bytes(LARGE)
    storage.overlays.put("image.png", LARGE, **PNG)
    storage.overlays.put_file("report.html", tmp_path / "report.html", content_type="text/html")
    assert expects == [False, True]
    assert storage.overlays.get("image.png") == storage.overlays.get("report.html") == LARGE


def test_wrong_secret_is_a_storage_error(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong-secret")
    storage = Storage(parse_settings())
    refused = r"SignatureDoesNotMatch \(HTTP 403\)"
    with pytest.raises(StorageError, match=rf"cannot write s3://{bucket.name}/overlays/image.png: {refused}"):
        storage.overlays.put("image.png", b"x", **PNG)
    with pytest.raises(StorageError, match=refused):
        storage.overlays.get("image.png")
    with pytest.raises(StorageError, match=refused):
        storage.overlays.delete("image.png")
    with pytest.raises(StorageError, match=refused):
        storage.sources.read(s3_uri(bucket.name, "image.png"), max_bytes=100)
    with pytest.raises(StorageError, match=refused):
        list(storage.sources.list_objects(bucket.name, ""))


def test_missing_credentials_are_a_storage_error(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    with pytest.raises(StorageError, match="no access key; set AWS_ACCESS_KEY_ID and"):
        Storage(parse_settings()).overlays.put("image.png", b"x", **PNG)


def test_missing_bucket_for_overlays_is_a_storage_error(bucket: Bucket) -> None:
    overlays = Storage(parse_settings(storage_url="s3://no-such-bucket")).overlays
    with pytest.raises(StorageError, match=r"NoSuchBucket \(HTTP 404\)"):
        overlays.put("image.png", b"x", **PNG)


def test_request_is_retried_while_the_store_is_unavailable(proxy: FaultProxy) -> None:
    proxy.inject(Fault("unavailable"), times=2)
    overlays = Storage(parse_settings()).overlays
    overlays.put("image.png", b"x", **PNG)
    assert overlays.get("image.png") == b"x"
    assert proxy.faults == 2


def test_answer_without_its_headers_is_a_storage_error(bucket: Bucket) -> None:
    """As a damaged name of a header leaves it: the request can be sent again."""
    storage = Storage(parse_settings())
    storage.overlays.put("image.png", LARGE, **PNG)
    for operation, header in (("GetObject", "ContentLength"), ("HeadObject", "ETag")):
        storage.client.meta.events.register(
            f"after-call.s3.{operation}", lambda parsed, lost=header, **_: parsed.pop(lost)
        )
    with pytest.raises(StorageError, match=rf"cannot read s3://{bucket.name}/overlays/image.png: .* no ContentLength"):
        storage.overlays.get("image.png")
    with pytest.raises(StorageError, match="the answer has no ETag"):
        storage.overlays.version("image.png")


def test_object_that_the_store_refuses_is_not_a_failing_store(bucket: Bucket) -> None:
    """An encrypted object without its key, and an object that a policy denies."""
    key = {"SSECustomerAlgorithm": "AES256", "SSECustomerKey": b"k" * 32}
    bucket.client.put_object(Bucket=bucket.name, Key="encrypted.jpg", Body=b"x", **key)
    bucket.client.put_object(Bucket=bucket.name, Key="denied.jpg", Body=b"x")
    refuse_objects(bucket, "denied.jpg")
    sources = Storage(parse_settings()).sources
    for name, reason in (("encrypted.jpg", r"\(HTTP 400\)"), ("denied.jpg", r"AccessDenied \(HTTP 403\)")):
        for read in (lambda uri: sources.read(uri, max_bytes=100), sources.probe):
            with pytest.raises(ObjectRefusedError, match=reason) as caught:
                read(s3_uri(bucket.name, name))
            assert caught.value.code == "storage_refused"


def test_wrong_secret_is_not_a_refused_object(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    bucket.client.put_object(Bucket=bucket.name, Key="image.jpg", Body=b"x")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong-secret")
    with pytest.raises(StorageError) as caught:
        Storage(parse_settings()).sources.probe(s3_uri(bucket.name, "image.jpg"))
    assert type(caught.value) is StorageError
