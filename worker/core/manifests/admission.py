"""What the door lets in: where references may lead, which columns may come along, what a patient is called inside."""

import hmac
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit

from pydantic import SecretStr

from worker.core.allowed_roots import AllowedRoots
from worker.core.errors import ImageReferenceError, SourceError
from worker.core.manifests.image_reference import Reference
from worker.core.settings import Settings
from worker.core.uris import parse_file_uri, parse_s3_uri, uri_scheme


@dataclass(frozen=True, slots=True)
class Door:
    """`roots`: where any reference may lead, None where no bounds are set; `store_bucket`: that of the overlays.

    `allowed_columns`: of a manifest or a label file, though they look as if they named a person.
    """

    roots: AllowedRoots | None = None
    store_bucket: str | None = None
    patient_key: SecretStr | None = None
    allowed_columns: frozenset[str] = frozenset()


def make_door(settings: Settings, allowed_columns: Collection[str] = ()) -> Door:
    """The door that the settings describe, and what this command allows beside."""
    parts = urlsplit(settings.storage_url)
    allowed = {*allowed_columns, *(column.strip() for column in (settings.allowed_columns or "").split(","))}
    bucket = parts.netloc if parts.scheme == "s3" else None
    return Door(settings.allowed_roots, bucket, settings.patient_key, frozenset(allowed))


def manifest_roots(door: Door, folder: Path) -> AllowedRoots:
    """Where a manifest in `folder` may lead: as set, else the folder and the store's bucket.

    Whoever wrote a manifest is not the operator who enqueues it, so it may not name any file of the machine.
    """
    if door.roots is not None:
        return door.roots
    return AllowedRoots((folder,), () if door.store_bucket is None else ((door.store_bucket, ""),))


def check_allowed(uri: str, roots: AllowedRoots) -> None:
    """Raises ImageReferenceError for a reference, `file://` or `s3://`, that leads out of `roots`."""
    if uri_scheme(uri) == "s3":
        roots.check_object(*parse_s3_uri(uri))
    else:
        roots.resolve_file(parse_file_uri(uri))


def admit(references: Iterator[Reference], door: Door) -> Iterator[Reference]:
    """The references, patients under their keyed hash. Raises SourceError for one that leads out of the roots."""
    for reference in references:
        if door.roots is not None:
            try:
                check_allowed(reference.uri, door.roots)
            except ImageReferenceError as error:
                raise SourceError(error.detail, code=error.code) from error
        yield reference if door.patient_key is None else _pseudonymised(reference, door.patient_key)


def _pseudonymised(reference: Reference, key: SecretStr) -> Reference:
    if reference.patient_id is None:
        return reference
    digest = hmac.digest(key.get_secret_value().encode(), reference.patient_id.encode(), "sha256").hex()
    return replace(reference, patient_id=digest)
