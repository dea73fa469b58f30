"""List the images under a prefix of an S3 bucket."""

import hashlib
from collections.abc import Iterator

from producer.sources.dicom_files import DicomFiles
from worker.core.errors import SourceError
from worker.core.manifests.image_reference import ImageReference, OnWarning
from worker.core.storage.source_reader import SourceReader
from worker.core.uris import s3_uri

MAX_ETAG_CHARS = 128


def list_bucket_images(
    uri: str, reader: SourceReader, on_warning: OnWarning, dicom_files: DicomFiles
) -> Iterator[ImageReference]:
    """Yield references to the image objects under `s3://BUCKET/PREFIX`, in the store's order and in constant memory.

    dicom_files: selects DICOM objects by content among those without an image suffix.
    The prefix is not a folder: `s3://b/night` also matches `night2/eye.jpg`. The number of other objects is passed to
    `on_warning` at the end. Raises SourceError for a URI without a bucket, StorageError if the listing fails.
    """
    bucket, _, prefix = uri.removeprefix("s3://").partition("/")
    if not bucket:
        raise SourceError(f"{uri!r} names no bucket: use s3://BUCKET/PREFIX")
    objects = (
        ImageReference(s3_uri(bucket, item["Key"]), etag=_etag(item.get("ETag", "")), modified_at=item["LastModified"])
        for item in reader.list_objects(bucket, prefix)
    )
    ignored = 0
    for reference in dicom_files.select_all(objects):
        if reference is not None:
            yield reference
        else:
            ignored += 1
    if ignored:
        on_warning(f"not image files, ignored under {uri}: {ignored}")
    dicom_files.report(f"under {uri}", on_warning)


def _etag(header: str) -> str | None:
    """Return the ETag without quotes, or its SHA-256 if the ledger cannot store it."""
    etag = header.strip('"')
    if len(etag) > MAX_ETAG_CHARS or not etag.isprintable():
        return hashlib.sha256(etag.encode(errors="surrogatepass")).hexdigest()
    return etag or None
