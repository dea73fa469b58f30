"""Check where image references point, and pseudonymise patient ids, before anything enters the ledger."""

import hmac
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit

from pydantic import SecretStr

from worker.core.allowed_roots import AllowedRoots
from worker.core.errors import ImageReferenceError, SourceError
from worker.core.manifests.image_reference import ImageReference
from worker.core.settings import Settings
from worker.core.uris import parse_dicomweb_uri, parse_file_uri, parse_s3_uri, uri_scheme
from worker.core.vocabulary import DicomAdmission


@dataclass(frozen=True, slots=True)
class AdmissionPolicy:
    """Rules for references, columns and patient ids of a source.

    roots: where references may point; None allows every place.
    store_bucket: the S3 bucket of the overlays; None for a folder store.
    patient_key: HMAC key for patient ids; None keeps the ids unchanged.
    allowed_columns: columns of manifests and label files that are accepted although their names look personal.
    dicom_admissions: DICOM instances that are graded in addition to the usual ones.
    """

    roots: AllowedRoots | None = None
    store_bucket: str | None = None
    patient_key: SecretStr | None = None
    allowed_columns: frozenset[str] = frozenset()
    dicom_admissions: frozenset[DicomAdmission] = frozenset()


def make_admission_policy(settings: Settings, allowed_columns: Collection[str] = ()) -> AdmissionPolicy:
    """Make the policy of the settings; `allowed_columns` adds to those of FUNDUS_ALLOWED_COLUMNS."""
    parts = urlsplit(settings.storage_url)
    allowed = {*allowed_columns, *(column.strip() for column in (settings.allowed_columns or "").split(","))}
    bucket = parts.netloc if parts.scheme == "s3" else None
    return AdmissionPolicy(
        settings.allowed_roots, bucket, settings.patient_key, frozenset(allowed), settings.dicom_admissions
    )


def manifest_roots(policy: AdmissionPolicy, folder: Path) -> AllowedRoots:
    """Return the roots for a manifest in `folder`: those of the policy, else the folder and the store's bucket.

    The author of a manifest need not be the operator who enqueues it, so a manifest may not name any file of the
    machine.
    """
    if policy.roots is not None:
        return policy.roots
    return AllowedRoots((folder,), () if policy.store_bucket is None else ((policy.store_bucket, ""),))


def check_allowed(uri: str, roots: AllowedRoots) -> None:
    """Raise ImageReferenceError if a reference points outside `roots`."""
    scheme = uri_scheme(uri)
    if scheme == "s3":
        roots.check_object(*parse_s3_uri(uri))
    elif scheme == "dicomweb":
        parse_dicomweb_uri(uri)
        roots.check_pacs()
    else:
        roots.resolve_file(parse_file_uri(uri))


def admit_references(references: Iterator[ImageReference], policy: AdmissionPolicy) -> Iterator[ImageReference]:
    """Yield the references in order, with hashed patient ids if the policy has a key.

    Raises SourceError for a reference outside the policy's roots.
    """
    for reference in references:
        if policy.roots is not None:
            try:
                check_allowed(reference.uri, policy.roots)
            except ImageReferenceError as error:
                raise SourceError(error.detail, code=error.code) from error
        yield reference if policy.patient_key is None else _pseudonymise(reference, policy.patient_key)


def _pseudonymise(reference: ImageReference, key: SecretStr) -> ImageReference:
    if reference.patient_id is None:
        return reference
    return replace(reference, patient_id=hash_patient_id(reference.patient_id, key))


def hash_patient_id(patient_id: str, key: SecretStr) -> str:
    """Return the HMAC-SHA-256 of a patient id, hexadecimal: the pseudonym that the ledger stores."""
    return hmac.digest(key.get_secret_value().encode(), patient_id.encode(), "sha256").hex()
