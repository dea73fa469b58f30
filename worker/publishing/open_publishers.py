"""Open the publishers of the kinds that FUNDUS_PUBLISH names."""

from __future__ import annotations

from contextlib import ExitStack, closing, contextmanager
from typing import TYPE_CHECKING

from worker.core.errors import SettingsError
from worker.core.storage.storage import Storage
from worker.core.vocabulary import PublicationKind
from worker.ledger.database import connect

if TYPE_CHECKING:
    from collections.abc import Iterator

    from worker.core.settings import Settings
    from worker.publishing.dicom.publishers import DicomPublisher
    from worker.publishing.fhir import FhirPublisher
    from worker.publishing.publisher import Publisher

DICOM_KINDS = (PublicationKind.OVERLAY, PublicationKind.SR)


@contextmanager
def open_publishers(settings: Settings) -> Iterator[dict[PublicationKind, Publisher]]:
    """Yield the publisher of each kind, and close their connections at the end.

    Raises SettingsError if FUNDUS_PUBLISH is not set, or what one of its kinds needs.
    """
    kinds = settings.publication_kinds
    if not kinds:
        raise SettingsError("FUNDUS_PUBLISH is not set; fix: name what is published, such as sr,overlay")
    publishers: dict[PublicationKind, Publisher] = {}
    with ExitStack() as resources:
        if set(kinds) & set(DICOM_KINDS):
            dicom = resources.enter_context(open_dicom_publisher(settings))
            publishers |= {kind: dicom.publish for kind in DICOM_KINDS if kind in kinds}
        if PublicationKind.FHIR in kinds:
            publishers[PublicationKind.FHIR] = resources.enter_context(open_fhir_publisher(settings)).publish
        yield publishers


@contextmanager
def open_dicom_publisher(settings: Settings) -> Iterator[DicomPublisher]:
    """Yield the publisher of reports and overlays. Raises SettingsError without a PACS or the extra `dicom`."""
    try:
        from worker.core.dicomweb.connect import make_dicomweb_client
        from worker.publishing.dicom.publishers import DicomPublisher
    except ModuleNotFoundError as error:
        raise SettingsError(f"publishing needs {error.name}; fix: install the extra `dicom`") from error
    client = make_dicomweb_client(settings)
    try:
        yield DicomPublisher(client, Storage(settings).overlays, settings)
    finally:
        client.close()


@contextmanager
def open_fhir_publisher(settings: Settings) -> Iterator[FhirPublisher]:
    """Yield the publisher of FHIR resources.

    Raises SettingsError without a PACS, a FHIR server or the extra `dicom`.
    """
    try:
        from worker.core.dicomweb.connect import make_dicomweb_client
        from worker.publishing.fhir import FhirPublisher
    except ModuleNotFoundError as error:
        raise SettingsError(f"publishing needs {error.name}; fix: install the extra `dicom`") from error
    with closing(make_dicomweb_client(settings)) as pacs:
        engine = connect(settings)
        try:
            with closing(FhirPublisher(engine, pacs, settings)) as publisher:
                yield publisher
        finally:
            engine.dispose()
