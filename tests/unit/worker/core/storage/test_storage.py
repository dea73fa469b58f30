from pathlib import Path

from tests.services.seaweedfs import Bucket
from worker.core.settings import parse_settings
from worker.core.storage.storage import Storage


def test_uris_follow_the_storage_url(folder: Path, bucket: Bucket) -> None:
    in_bucket = Storage(parse_settings(storage_url=f"s3://{bucket.name}/overlays/")).overlays
    assert in_bucket.uri("run/image.png") == f"s3://{bucket.name}/overlays/run/image.png"
    without_prefix = Storage(parse_settings(storage_url=f"s3://{bucket.name}")).overlays
    assert without_prefix.uri("run/image.png") == f"s3://{bucket.name}/run/image.png"
    in_folder = Storage(parse_settings(storage_url=folder.as_uri())).overlays
    assert in_folder.uri("run/image.png") == f"file://{folder}/run/image.png"
