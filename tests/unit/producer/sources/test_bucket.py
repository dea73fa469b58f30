from concurrent.futures import ThreadPoolExecutor

import pytest

from producer.sources.bucket import list_bucket_images
from tests.services.seaweedfs import Bucket
from worker.core.errors import SourceError, StorageError
from worker.core.settings import parse_settings
from worker.core.storage.storage import Storage


def test_images_under_the_prefix_are_listed(bucket: Bucket) -> None:
    storage = Storage(parse_settings())
    name = storage._settings.storage_url.removeprefix("s3://").partition("/")[0]
    for key in ("in/b.jpg", "in/a #1?.PNG", "in/sub/c.tif", "in/readme.txt", "in/.hidden.jpg", "out/d.jpg"):
        storage.client.put_object(Bucket=name, Key=key, Body=b"")
    warnings: list[str] = []

    uris = [reference.uri for reference in list_bucket_images(f"s3://{name}/in/", storage.sources, warnings.append)]

    assert uris == [f"s3://{name}/in/a%20%231%3F.PNG", f"s3://{name}/in/b.jpg", f"s3://{name}/in/sub/c.tif"]
    assert warnings == [f"not image files, ignored under s3://{name}/in/: 2"]


def test_listing_continues_past_one_page(bucket: Bucket) -> None:
    storage = Storage(parse_settings())
    name = storage._settings.storage_url.removeprefix("s3://").partition("/")[0]
    with ThreadPoolExecutor(8) as pool:
        for number in range(1005):
            pool.submit(storage.client.put_object, Bucket=name, Key=f"{number:04d}.jpg", Body=b"")

    uris = [reference.uri for reference in list_bucket_images(f"s3://{name}", storage.sources, print)]

    assert (len(uris), uris[-1]) == (1005, f"s3://{name}/1004.jpg")


def test_missing_bucket_is_a_storage_error(bucket: Bucket) -> None:
    with pytest.raises(StorageError, match="cannot list s3://no-such-bucket/: NoSuchBucket"):
        list(list_bucket_images("s3://no-such-bucket", Storage(parse_settings()).sources, print))


def test_address_without_a_bucket_is_refused(bucket: Bucket) -> None:
    with pytest.raises(SourceError, match="names no bucket"):
        list(list_bucket_images("s3:///x", Storage(parse_settings()).sources, print))
