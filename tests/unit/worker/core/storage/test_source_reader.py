import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.services.fault_proxy import Fault, FaultProxy
from tests.services.process import HUNG_AFTER_S
from tests.services.seaweedfs import Bucket
from worker.core.errors import (
    ImageMissingError,
    ImageReferenceError,
    ImageTooLargeError,
    StorageError,
)
from worker.core.settings import parse_settings
from worker.core.storage.object_store import ObjectContent
from worker.core.storage.source_reader import SourceReader
from worker.core.storage.storage import Storage
from worker.core.uris import file_uri, s3_uri

LARGE = bytes(range(256)) * 4096
AWKWARD_KEYS = ["plain.jpg", "a folder/ü # ? & + %41.jpg", "100%.jpg", "trailing space .jpg", "日本/眼.jpg"]

PutObject = Callable[[str, bytes], str]


def make_reader(**settings: object) -> SourceReader:
    return Storage(parse_settings(**settings)).sources


@pytest.fixture(params=["folder", "bucket"])
def put_object(request: pytest.FixtureRequest, tmp_path: Path) -> PutObject:
    """Function that stores an image without the project's code and returns its reference."""
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


@pytest.mark.parametrize("key", AWKWARD_KEYS)
def test_image_of_a_reference_is_read(key: str, put_object: PutObject) -> None:
    reference = put_object(key, key.encode())
    assert make_reader().read(reference, max_bytes=100).data == key.encode()


def test_version_of_an_object_is_read_with_its_content(bucket: Bucket) -> None:
    reference = s3_uri(bucket.name, "image.jpg")
    bucket.client.put_object(Bucket=bucket.name, Key="image.jpg", Body=b"unversioned")
    assert make_reader().read(reference, max_bytes=100) == ObjectContent(b"unversioned", None)
    bucket.client.put_bucket_versioning(Bucket=bucket.name, VersioningConfiguration={"Status": "Enabled"})
    # Written before the bucket had versions: it can be overwritten in place.
    assert make_reader().read(reference, max_bytes=100) == ObjectContent(b"unversioned", None)
    for data in (b"first", b"second"):
        version = bucket.client.put_object(Bucket=bucket.name, Key="image.jpg", Body=data)["VersionId"]
        assert make_reader().read(reference, max_bytes=100) == ObjectContent(data, version)


def test_image_of_max_bytes_is_read(put_object: PutObject) -> None:
    assert make_reader().read(put_object("image.jpg", LARGE), max_bytes=len(LARGE)).data == LARGE


def test_image_of_more_than_max_bytes_is_refused(put_object: PutObject) -> None:
    reference = put_object("image.jpg", LARGE)
    with pytest.raises(ImageTooLargeError) as caught:
        make_reader().read(reference, max_bytes=len(LARGE) - 1)
    assert caught.value.detail == "1048576 bytes, the limit is 1048575"


def test_missing_image_is_not_a_storage_error(put_object: PutObject) -> None:
    reference = put_object("there.jpg", b"x")
    with pytest.raises(ImageMissingError, match=r"not-there\.jpg"):
        make_reader().read(reference.replace("there.jpg", "not-there.jpg"), max_bytes=100)


def test_missing_bucket_is_a_missing_image(bucket: Bucket) -> None:
    with pytest.raises(ImageMissingError, match="NoSuchBucket"):
        make_reader().read("s3://no-such-bucket/image.jpg", max_bytes=100)


def test_folder_is_a_missing_image(tmp_path: Path) -> None:
    with pytest.raises(ImageMissingError):
        make_reader().read(file_uri(tmp_path), max_bytes=100)


def test_fifo_is_a_missing_image_and_does_not_block(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    with pytest.raises(ImageMissingError):
        make_reader().read(file_uri(tmp_path / "pipe.jpg"), max_bytes=100)


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
def test_invalid_reference_is_an_image_error(reference: str, bucket: Bucket) -> None:
    with pytest.raises(ImageReferenceError):
        make_reader().read(reference, max_bytes=100)


def test_size_is_checked_before_the_body_is_read(bucket: Bucket, proxy: FaultProxy) -> None:
    bucket.client.put_object(Bucket=bucket.name, Key="image.jpg", Body=LARGE)
    # Every body is cut, so reading one would raise StorageError.
    proxy.inject(Fault("cut", after_bytes=4096))
    with pytest.raises(ImageTooLargeError):
        make_reader().read(s3_uri(bucket.name, "image.jpg"), max_bytes=10)
    assert proxy.faults == 1


@pytest.mark.parametrize("kind", ["cut", "end"])
def test_interrupted_body_is_read_again(bucket: Bucket, proxy: FaultProxy, kind: str) -> None:
    bucket.client.put_object(Bucket=bucket.name, Key="image.jpg", Body=LARGE)
    proxy.inject(Fault(kind, after_bytes=100_000), times=2)
    assert make_reader().read(s3_uri(bucket.name, "image.jpg"), max_bytes=len(LARGE)).data == LARGE
    assert proxy.faults == 2


@pytest.mark.parametrize("kind", ["cut", "end"])
def test_body_that_is_always_interrupted_is_a_storage_error(bucket: Bucket, proxy: FaultProxy, kind: str) -> None:
    bucket.client.put_object(Bucket=bucket.name, Key="image.jpg", Body=LARGE)
    proxy.inject(Fault(kind, after_bytes=100_000))
    with pytest.raises(StorageError, match=rf"cannot read s3://{bucket.name}/image.jpg"):
        make_reader().read(s3_uri(bucket.name, "image.jpg"), max_bytes=len(LARGE))
    assert proxy.faults == 3


def test_body_that_arrives_byte_by_byte_is_a_storage_error(
    bucket: Bucket, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each piece arrives within the timeout of the socket, and all 64 of them would take 64 s."""
    monkeypatch.setenv("FUNDUS_S3_TIMEOUT_S", str(HUNG_AFTER_S))
    bucket.client.put_object(Bucket=bucket.name, Key="image.jpg", Body=LARGE)
    proxy.inject(Fault("slow", delay_s=1))
    with pytest.raises(StorageError, match=rf"cannot read s3://{bucket.name}/image.jpg: incomplete after 2 s"):
        make_reader(transfer_timeout_s=2).read(s3_uri(bucket.name, "image.jpg"), max_bytes=len(LARGE))
    assert proxy.faults == 1


@pytest.mark.parametrize("kind", ["stall", "reset"])
def test_silent_store_is_a_storage_error_within_a_time_limit(kind: str, bucket: Bucket, proxy: FaultProxy) -> None:
    proxy.inject(Fault(kind))
    started = time.monotonic()
    with pytest.raises(StorageError):
        make_reader().read(s3_uri(bucket.name, "image.jpg"), max_bytes=100)
    # Four requests of at most 0.5 s, and pauses of at most 1, 2 and 4 s between them: 9 s on an idle machine.
    assert time.monotonic() - started < HUNG_AFTER_S
    assert proxy.faults == 4


def test_listing_yields_the_objects_below_the_prefix(bucket: Bucket) -> None:
    client = bucket.client
    for key in ("july/a.jpg", "july/b.jpg", "august/c.jpg"):
        client.put_object(Bucket=bucket.name, Key=key, Body=b"xyz")
    found = make_reader().list_objects(bucket.name, "july/")
    assert [(item["Key"], item["Size"]) for item in found] == [("july/a.jpg", 3), ("july/b.jpg", 3)]


def test_file_outside_the_roots_is_refused(tmp_path: Path) -> None:
    root, secret = tmp_path / "in", tmp_path / "secret.jpg"
    root.mkdir()
    (root / "eye.jpg").write_bytes(b"eye")
    secret.write_bytes(b"secret")
    (root / "link.jpg").symlink_to(secret)
    reader = make_reader(source_roots=str(root))
    assert reader.read(file_uri(root / "eye.jpg"), max_bytes=10).data == b"eye"
    for reference in (file_uri(secret), file_uri(root / "link.jpg"), f"{root.as_uri()}/%2e%2e/secret.jpg"):
        with pytest.raises(ImageReferenceError, match="outside the allowed folders"):
            reader.read(reference, max_bytes=10)


def test_symbolic_link_created_after_the_check_is_refused(tmp_path: Path) -> None:
    """A path may change between check and open, so the opened file is checked, not its name."""
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
    reader = make_reader(source_roots=str(root))
    swapping = threading.Thread(target=swap)
    swapping.start()
    seen = set()
    try:
        for _ in range(2000):
            try:
                seen.add(reader.read(file_uri(target), max_bytes=10).data)
            except ImageReferenceError:
                seen.add(b"refused")
    finally:
        stop.set()
        swapping.join()
    assert {b"refused"} <= seen <= {b"refused", b"eye", b""}


def test_object_outside_the_roots_is_refused(bucket: Bucket) -> None:
    bucket.client.put_object(Bucket=bucket.name, Key="in/eye.jpg", Body=b"eye")
    reference = s3_uri(bucket.name, "in/eye.jpg")
    allowed = make_reader(source_roots=f"s3://{bucket.name}/in")
    assert allowed.read(reference, max_bytes=10).data == b"eye"
    for roots in (f"s3://{bucket.name}/i", "s3://elsewhere", "/"):
        with pytest.raises(ImageReferenceError, match="outside the allowed prefixes"):
            make_reader(source_roots=roots).read(reference, max_bytes=10)


NOBODY = 65534
READ_AS_ANOTHER_USER = """
import os
import sys
from worker.core.errors import FundusError
from worker.core.storage.source_reader import SourceReader
os.seteuid(int(sys.argv[1]))
for uri in sys.argv[2:]:
    reader = SourceReader(None, None, None, transfer_timeout_s=60)
    for work in (lambda: reader.read(uri, max_bytes=10).data, lambda: reader.probe(uri)):
        try:
            print(work())
        except FundusError as error:
            print(type(error).__name__, error.code, error.detail.rpartition(": ")[2])
"""


def test_file_without_permission_is_refused() -> None:
    """Read by another user, since root may read every file."""
    user = NOBODY if os.geteuid() == 0 else os.geteuid()
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        for name, mode in (("open.jpg", 0o644), ("closed.jpg", 0)):
            (Path(folder) / name).write_bytes(b"x")
            (Path(folder) / name).chmod(mode)
        uris = [file_uri(Path(folder) / name) for name in ("open.jpg", "closed.jpg")]
        done = subprocess.run(
            [sys.executable, "-c", READ_AS_ANOTHER_USER, str(user), *uris], capture_output=True, text=True, check=True
        )
    refusal = "ObjectRefusedError storage_refused Permission denied"
    assert done.stdout.splitlines() == ["b'x'", "None", refusal, refusal]


def test_store_of_an_image_is_its_bucket_or_mounted_file_system(tmp_path: Path) -> None:
    reader = make_reader()
    assert reader.store_uri("s3://eyes/july/a%20b.jpg") == "s3://eyes/"
    if not any(parent.is_mount() for parent in tmp_path.parents if parent != Path("/")):
        assert reader.store_uri(file_uri(tmp_path / "no-folder" / "a.jpg")) == "file:///"
    assert reader.store_uri("file:///proc/self/status") == "file:///proc/"
