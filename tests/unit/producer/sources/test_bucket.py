from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from producer.sources.bucket import list_bucket_images
from producer.sources.dicom_files import DicomFiles
from tests.services.seaweedfs import Bucket
from worker.core.errors import SourceError, StorageError
from worker.core.manifests.admission import AdmissionPolicy
from worker.core.manifests.image_reference import ImageReference, OnWarning
from worker.core.settings import parse_settings
from worker.core.storage.storage import Storage


def list_images(uri: str, on_warning: OnWarning) -> Iterator[ImageReference]:
    sources = Storage(parse_settings()).sources
    return list_bucket_images(uri, sources, on_warning, DicomFiles(sources, AdmissionPolicy()))


def test_images_under_the_prefix_are_listed(bucket: Bucket) -> None:
    storage = Storage(parse_settings())
    name = storage._settings.storage_url.removeprefix("s3://").partition("/")[0]
    for key in ("in/b.jpg", "in/a #1?.PNG", "in/sub/c.tif", "in/readme.txt", "in/.hidden.jpg", "out/d.jpg"):
        storage.client.put_object(Bucket=name, Key=key, Body=b"")
    warnings: list[str] = []

    uris = [reference.uri for reference in list_images(f"s3://{name}/in/", warnings.append)]

    assert uris == [f"s3://{name}/in/a%20%231%3F.PNG", f"s3://{name}/in/b.jpg", f"s3://{name}/in/sub/c.tif"]
    assert warnings == [f"not image files, ignored under s3://{name}/in/: 2"]


def test_listing_continues_past_one_page(bucket: Bucket) -> None:
    storage = Storage(parse_settings())
    name = storage._settings.storage_url.removeprefix("s3://").partition("/")[0]
    with ThreadPoolExecutor(8) as pool:
        for number in range(1005):
            pool.submit(storage.client.put_object, Bucket=name, Key=f"{number:04d}.jpg", Body=b"")

    uris = [reference.uri for reference in list_images(f"s3://{name}", print)]

    assert (len(uris), uris[-1]) == (1005, f"s3://{name}/1004.jpg")


def test_missing_bucket_is_a_storage_error(bucket: Bucket) -> None:
    with pytest.raises(StorageError, match="cannot list s3://no-such-bucket/: NoSuchBucket"):
        list(list_images("s3://no-such-bucket", print))


def test_address_without_a_bucket_is_refused(bucket: Bucket) -> None:
    with pytest.raises(SourceError, match="names no bucket"):
        list(list_images("s3:///x", print))
