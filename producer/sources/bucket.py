"""Find the images under a prefix of an S3 bucket, a page of the listing at a time."""

import hashlib
from collections.abc import Iterator

from worker.core.errors import SourceError
from worker.core.manifests.image_reference import ImageReference, OnWarning, is_image_name
from worker.core.storage.source_reader import SourceReader
from worker.core.uris import s3_uri

MAX_ETAG_CHARS = 128


def list_images(address: str, sources: SourceReader, on_warning: OnWarning) -> Iterator[ImageReference]:
    """References to the image objects under `s3://BUCKET/PREFIX`, in the store's order, in flat memory.

    The prefix is taken as it is written: `s3://b/night` also matches `night2/eye.jpg`. Other objects are counted and
    told to `on_warning` at the end. Raises SourceError for an address without a bucket, StorageError from the listing.
    """
    bucket, _, prefix = address.removeprefix("s3://").partition("/")
    if not bucket:
        raise SourceError(f"{address!r} names no bucket: s3://BUCKET/PREFIX")
    ignored = 0
    for item in sources.list_objects(bucket, prefix):
        key = item["Key"]
        if is_image_name(key.rpartition("/")[2]):
            yield ImageReference(
                s3_uri(bucket, key), etag=_etag(item.get("ETag", "")), modified_at=item["LastModified"]
            )
        else:
            ignored += 1
    if ignored:
        on_warning(f"not image files, ignored under {address}: {ignored}")


def _etag(told: str) -> str | None:
    """As the store tells it, without its quotes; one that the ledger cannot hold, by its SHA-256."""
    etag = told.strip('"')
    if len(etag) > MAX_ETAG_CHARS or not etag.isprintable():
        return hashlib.sha256(etag.encode(errors="surrogatepass")).hexdigest()
    return etag or None
