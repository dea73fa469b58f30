import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import urlopen

import pytest
from botocore.awsrequest import AWSPreparedRequest

from tests.services.fault_proxy import Fault, FaultProxy, fault_proxy
from tests.services.seaweedfs import Bucket
from worker.core.errors import (
    ImageMissingError,
    ImageReferenceError,
    ImageTooLargeError,
    StorageError,
)
from worker.core.settings import parse_settings
from worker.core.storage.object_store import CACHE_CONTROL, CHANGES, ObjectStore, Storage
from worker.core.uris import file_uri, s3_uri

PNG = {"content_type": "image/png", "metadata": {}}
LARGE = bytes(range(256)) * 4096
AWKWARD_KEYS = ["plain.jpg", "a folder/ü # ? & + %41.jpg", "100%.jpg", "trailing space .jpg", "日本/眼.jpg"]

PutObject = Callable[[str, bytes], str]


@pytest.fixture(params=["folder", "bucket"])
def put_object(request: pytest.FixtureRequest, tmp_path: Path) -> PutObject:
    """Lays an image where a programme would keep it, without the project, and gives the reference to it."""
    if request.param == "folder":

        def put_file(key: str, data: bytes) -> str:
            path = tmp_path / "images" / key
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
            return file_uri(path)

        return put_file
    bucket: Bucket = request.getfixturevalue("bucket")

    def put_in_bucket(key: str, data: bytes) -> str:
        bucket.client.put_object(Bucket=bucket.name, Key=key, Body=data)
        return s3_uri(bucket.name, key)

    return put_in_bucket


@pytest.fixture
def proxy(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultProxy]:
    """What stands between the project and the S3 server."""
    port = urlsplit(bucket.endpoint_url).port
    assert port is not None
    with fault_proxy(port) as proxy:
        monkeypatch.setenv("FUNDUS_S3_ENDPOINT_URL", f"http://127.0.0.1:{proxy.port}")
        monkeypatch.setenv("FUNDUS_S3_TIMEOUT_S", "0.5")
        yield proxy


def test_file_is_put_as_it_is_and_a_link_opens_it(store: ObjectStore, tmp_path: Path) -> None:
    file = tmp_path / "table.csv"
    file.write_bytes(LARGE)
    for _ in range(2):
        store.put_file("run/report/table.csv", file, content_type="text/csv")
    assert store.get("run/report/table.csv") == LARGE
    with urlopen(store.link("run/report/table.csv", seconds=60)) as answer:
        assert answer.read() == LARGE
        if answer.url.startswith("http"):
            assert (answer.headers["Content-Type"], answer.headers["Cache-Control"]) == ("text/csv", CHANGES)


def test_what_was_put_is_got(store: ObjectStore) -> None:
    store.put("run/model/image.png", LARGE, **PNG)
    assert store.get("run/model/image.png") == LARGE


def test_second_put_replaces_the_first(store: ObjectStore) -> None:
    store.put("image.png", LARGE, **PNG)
    store.put("image.png", b"short", **PNG)
    assert store.get("image.png") == b"short"


def test_empty_object_is_an_object(store: ObjectStore) -> None:
    store.put("empty", b"", **PNG)
    assert store.get("empty") == b""


def test_missing_object_is_a_missing_key(store: ObjectStore) -> None:
    with pytest.raises(KeyError, match="nowhere"):
        store.get("nowhere.png")


def test_all_under_a_prefix_goes_and_nothing_beside_it(store: ObjectStore) -> None:
    for key in ("run/report/a.js", "run/report/b.js", "run/report2/a.js", "run/image.png"):
        store.put(key, b"x", content_type="text/javascript", metadata={})
    store.delete_under("run/report/")
    store.delete_under("run/report/")
    for key in ("run/report/a.js", "run/report/b.js"):
        with pytest.raises(KeyError):
            store.get(key)
    assert [store.get(key) for key in ("run/report2/a.js", "run/image.png")] == [b"x", b"x"]


def test_deleted_object_is_gone_and_may_be_deleted_again(store: ObjectStore) -> None:
    store.put("run/image.png", b"x", **PNG)
    store.delete("run/image.png")
    store.delete("run/image.png")
    with pytest.raises(KeyError):
        store.get("run/image.png")


def test_address_of_an_object_can_be_read(store: ObjectStore) -> None:
    store.put("run/image.png", b"x", **PNG)
    assert Storage(parse_settings()).read(store.uri("run/image.png"), max_bytes=1) == b"x"


def test_addresses_are_those_of_the_settings(folder: Path, bucket: Bucket) -> None:
    in_bucket = Storage(parse_settings(storage_url=f"s3://{bucket.name}/overlays/")).overlays
    assert in_bucket.uri("run/image.png") == f"s3://{bucket.name}/overlays/run/image.png"
    at_top = Storage(parse_settings(storage_url=f"s3://{bucket.name}")).overlays
    assert at_top.uri("run/image.png") == f"s3://{bucket.name}/run/image.png"
    in_folder = Storage(parse_settings(storage_url=folder.as_uri())).overlays
    assert in_folder.uri("run/image.png") == f"file://{folder}/run/image.png"


@pytest.mark.parametrize("key", ["/etc/passwd", "../outside.png", "run/../../outside.png"])
def test_key_that_leaves_the_folder_is_refused(key: str, folder: Path) -> None:
    folder_store = Storage(parse_settings()).overlays
    with pytest.raises(ValueError, match="leaves the store"):
        folder_store.put(key, b"x", **PNG)


def test_file_is_written_whole_or_not_at_all(folder: Path) -> None:
    folder_store = Storage(parse_settings()).overlays
    folder_store.put("run/image.png", b"before", **PNG)
    with pytest.raises(TypeError):
        folder_store.put("run/image.png", "no bytes", **PNG)  # type: ignore[arg-type]
    assert [path.name for path in (folder / "run").iterdir()] == ["image.png"]
    assert folder_store.get("run/image.png") == b"before"


def test_folder_that_is_a_file_is_a_storage_error(folder: Path) -> None:
    folder.write_bytes(b"")
    folder_store = Storage(parse_settings()).overlays
    with pytest.raises(StorageError, match=str(folder)):
        folder_store.put("run/image.png", b"x", **PNG)


def test_bucket_keeps_type_cache_and_metadata(bucket: Bucket) -> None:
    Storage(parse_settings()).overlays.put(
        "image.jpg", b"x", content_type="image/jpeg", metadata={"run": "july", "grade": "3"}
    )
    head = bucket.client.head_object(Bucket=bucket.name, Key="overlays/image.jpg")
    assert head["ContentType"] == "image/jpeg"
    assert head["CacheControl"] == CACHE_CONTROL == "private, max-age=31536000, immutable"
    assert head["Metadata"] == {"run": "july", "grade": "3"}
    assert "ContentEncoding" not in head


def test_overlay_is_sent_without_asking_first_and_a_file_is_not(bucket: Bucket, tmp_path: Path) -> None:
    storage, asked = Storage(parse_settings()), []

    def see(request: AWSPreparedRequest, **_: object) -> None:
        asked.append("Expect" in request.headers)

    storage.client.meta.events.register("before-send.s3", see)
    (tmp_path / "report.html").write_bytes(LARGE)
    storage.overlays.put("image.png", LARGE, **PNG)
    storage.overlays.put_file("report.html", tmp_path / "report.html", content_type="text/html")
    assert asked == [False, True]
    assert storage.overlays.get("image.png") == storage.overlays.get("report.html") == LARGE


@pytest.mark.parametrize("key", AWKWARD_KEYS)
def test_reference_leads_to_its_image(key: str, put_object: PutObject) -> None:
    reference = put_object(key, key.encode())
    assert Storage(parse_settings()).read(reference, max_bytes=100) == key.encode()


def test_image_of_the_largest_size_is_read(put_object: PutObject) -> None:
    assert Storage(parse_settings()).read(put_object("image.jpg", LARGE), max_bytes=len(LARGE)) == LARGE


def test_image_of_one_byte_more_is_refused(put_object: PutObject) -> None:
    reference = put_object("image.jpg", LARGE)
    with pytest.raises(ImageTooLargeError) as caught:
        Storage(parse_settings()).read(reference, max_bytes=len(LARGE) - 1)
    assert caught.value.detail == "1048576 bytes, the limit is 1048575"


def test_missing_image_is_no_fault_of_the_store(put_object: PutObject) -> None:
    reference = put_object("there.jpg", b"x")
    with pytest.raises(ImageMissingError, match=r"not-there\.jpg"):
        Storage(parse_settings()).read(reference.replace("there.jpg", "not-there.jpg"), max_bytes=100)


def test_missing_bucket_is_a_missing_image(bucket: Bucket) -> None:
    with pytest.raises(ImageMissingError, match="NoSuchBucket"):
        Storage(parse_settings()).read("s3://no-such-bucket/image.jpg", max_bytes=100)


def test_folder_is_no_image(tmp_path: Path) -> None:
    with pytest.raises(ImageMissingError):
        Storage(parse_settings()).read(file_uri(tmp_path), max_bytes=100)


def test_pipe_is_no_image_and_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    with pytest.raises(ImageMissingError):
        Storage(parse_settings()).read(file_uri(tmp_path / "pipe.jpg"), max_bytes=100)


@pytest.mark.parametrize(
    "reference",
    [
        "https://example.org/image.jpg",
        "image.jpg",
        "",
        "file:///tmp/nul%00byte.jpg",
        "file:///tmp/" + "x" * 300 + ".jpg",
        "file://elsewhere/image.jpg",
        "s3://[broken/image.jpg",
        "s3://bucket",
        "s3://bucket/",
        "s3:///image.jpg",
        "s3://Not_A_Bucket!/image.jpg",
        "s3://bucket/" + "x" * 1025,
    ],
)
def test_reference_that_can_lead_nowhere_is_the_images_fault(reference: str, bucket: Bucket) -> None:
    with pytest.raises(ImageReferenceError):
        Storage(parse_settings()).read(reference, max_bytes=100)


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
        storage.read(s3_uri(bucket.name, "image.png"), max_bytes=100)
    with pytest.raises(StorageError, match=refused):
        list(storage.list_bucket(bucket.name, ""))


def test_missing_credentials_are_a_storage_error(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    with pytest.raises(StorageError, match="NoCredentialsError"):
        Storage(parse_settings()).overlays.put("image.png", b"x", **PNG)


def test_missing_bucket_for_overlays_is_a_storage_error(bucket: Bucket) -> None:
    overlays = Storage(parse_settings(storage_url="s3://no-such-bucket")).overlays
    with pytest.raises(StorageError, match=r"NoSuchBucket \(HTTP 404\)"):
        overlays.put("image.png", b"x", **PNG)


def test_size_is_checked_before_the_body_is_read(bucket: Bucket, proxy: FaultProxy) -> None:
    bucket.client.put_object(Bucket=bucket.name, Key="image.jpg", Body=LARGE)
    # Every body is cut: who reads one gets a StorageError.
    proxy.inject(Fault("cut", after_bytes=4096))
    with pytest.raises(ImageTooLargeError):
        Storage(parse_settings()).read(s3_uri(bucket.name, "image.jpg"), max_bytes=10)
    assert proxy.faults == 1


@pytest.mark.parametrize("kind", ["cut", "end"])
def test_body_that_breaks_off_is_read_again(bucket: Bucket, proxy: FaultProxy, kind: str) -> None:
    bucket.client.put_object(Bucket=bucket.name, Key="image.jpg", Body=LARGE)
    proxy.inject(Fault(kind, after_bytes=100_000), times=2)
    assert Storage(parse_settings()).read(s3_uri(bucket.name, "image.jpg"), max_bytes=len(LARGE)) == LARGE
    assert proxy.faults == 2


@pytest.mark.parametrize("kind", ["cut", "end"])
def test_body_that_always_breaks_off_is_a_storage_error(bucket: Bucket, proxy: FaultProxy, kind: str) -> None:
    bucket.client.put_object(Bucket=bucket.name, Key="image.jpg", Body=LARGE)
    proxy.inject(Fault(kind, after_bytes=100_000))
    with pytest.raises(StorageError, match=rf"cannot read s3://{bucket.name}/image.jpg"):
        Storage(parse_settings()).read(s3_uri(bucket.name, "image.jpg"), max_bytes=len(LARGE))
    assert proxy.faults == 3


def test_store_that_is_busy_for_a_moment_is_asked_again(proxy: FaultProxy) -> None:
    proxy.inject(Fault("unavailable"), times=2)
    overlays = Storage(parse_settings()).overlays
    overlays.put("image.png", b"x", **PNG)
    assert overlays.get("image.png") == b"x"
    assert proxy.faults == 2


@pytest.mark.parametrize("kind", ["stall", "reset"])
def test_store_that_does_not_answer_is_a_storage_error_in_bounded_time(
    kind: str, bucket: Bucket, proxy: FaultProxy
) -> None:
    proxy.inject(Fault(kind))
    started = time.monotonic()
    with pytest.raises(StorageError):
        Storage(parse_settings()).read(s3_uri(bucket.name, "image.jpg"), max_bytes=100)
    # Four requests of half a second at most, and pauses of at most 1, 2 and 4 s between them.
    assert time.monotonic() - started < 4 * 0.5 + 7 + 1
    assert proxy.faults == 4


def test_listing_gives_what_lies_under_the_prefix(bucket: Bucket) -> None:
    client = bucket.client
    for key in ("july/a.jpg", "july/b.jpg", "august/c.jpg"):
        client.put_object(Bucket=bucket.name, Key=key, Body=b"xyz")
    found = Storage(parse_settings()).list_bucket(bucket.name, "july/")
    assert [(item["Key"], item["Size"]) for item in found] == [("july/a.jpg", 3), ("july/b.jpg", 3)]


def test_worker_opens_no_file_outside_the_roots(tmp_path: Path) -> None:
    root, secret = tmp_path / "in", tmp_path / "secret.jpg"
    root.mkdir()
    (root / "eye.jpg").write_bytes(b"eye")
    secret.write_bytes(b"secret")
    (root / "link.jpg").symlink_to(secret)
    storage = Storage(parse_settings(source_roots=str(root)))
    assert storage.read(file_uri(root / "eye.jpg"), max_bytes=10) == b"eye"
    for reference in (file_uri(secret), file_uri(root / "link.jpg"), f"{root.as_uri()}/%2e%2e/secret.jpg"):
        with pytest.raises(ImageReferenceError, match="in no folder that may be read"):
            storage.read(reference, max_bytes=10)


def test_link_that_appears_after_the_check_is_seen(tmp_path: Path) -> None:
    """A path may lead elsewhere from one moment to the next; what was opened is judged, not what was named."""
    root, secret, target = tmp_path / "in", tmp_path / "secret.jpg", tmp_path / "in" / "eye.jpg"
    root.mkdir()
    secret.write_bytes(b"secret")
    stop = threading.Event()

    def swap() -> None:
        while not stop.is_set():
            for make in (lambda p: p.write_bytes(b"eye"), lambda p: p.symlink_to(secret)):
                part = root / "part"
                make(part)
                part.replace(target)

    target.write_bytes(b"eye")
    storage = Storage(parse_settings(source_roots=str(root)))
    swapping = threading.Thread(target=swap)
    swapping.start()
    seen = set()
    try:
        for _ in range(2000):
            try:
                seen.add(storage.read(file_uri(target), max_bytes=10))
            except ImageReferenceError:
                seen.add(b"refused")
    finally:
        stop.set()
        swapping.join()
    assert {b"refused"} <= seen <= {b"refused", b"eye", b""}


def test_worker_reads_no_bucket_outside_the_roots(bucket: Bucket) -> None:
    bucket.client.put_object(Bucket=bucket.name, Key="in/eye.jpg", Body=b"eye")
    reference = s3_uri(bucket.name, "in/eye.jpg")
    allowed = Storage(parse_settings(source_roots=f"s3://{bucket.name}/in"))
    assert allowed.read(reference, max_bytes=10) == b"eye"
    for roots in (f"s3://{bucket.name}/i", "s3://elsewhere", "/"):
        with pytest.raises(ImageReferenceError, match="in no place that may be read"):
            Storage(parse_settings(source_roots=roots)).read(reference, max_bytes=10)
