"""Publish the outcome of a photograph's study as FHIR resources.

Each photograph of a study updates the same resources. Two transactions that create a resource at the same time would
leave two of it on many servers, so a study has one publisher at a time. It reads the ledger while it holds the study:
an older outcome never overwrites a newer one.
"""

from __future__ import annotations

import time
import zlib
from contextlib import ExitStack, contextmanager
from datetime import date, datetime
from typing import TYPE_CHECKING, Any

from worker.core.dicomweb.client import INSTANCE_UID, DicomwebClient, read_text
from worker.core.errors import OverlapError, PublicationError, SettingsError, StoreBusyError
from worker.core.fhir.client import FhirClient, make_fhir_client
from worker.core.fhir.outcomes import Study
from worker.core.fhir.resources import Publisher
from worker.core.fhir.transaction import build_transaction
from worker.core.vocabulary import Status
from worker.ledger.locks import HeldLock, locked
from worker.ledger.runs import find_run
from worker.ledger.study_outcomes import read_outcomes
from worker.publishing.dicom.photograph import Photograph, find_photograph

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Engine

    from worker.core.settings import Settings
    from worker.ledger.published_outcomes import PublishedOutcome

LOCKS = 256
"""Number of locks that all studies share: the ledger keeps a row for each lock."""
LOCK_S = 60.0
LOCK_PATIENCE_S = 30.0
LOCK_POLL_S = 0.1
UNSETTLED_PAUSE_S = 300.0
"""When a study is published again of which photographs wait to be graded: one that fails enqueues nothing."""


class FhirPublisher:
    """Publishes studies; thread-safe."""

    def __init__(self, engine: Engine, pacs: DicomwebClient, settings: Settings) -> None:
        """Make it without any request. Raises SettingsError."""
        if settings.fhir_system is None:
            raise SettingsError("FUNDUS_FHIR_SYSTEM is not set; fix: set it to a URI of yours, as https://HOST/fundus")
        self._engine = engine
        self._pacs = pacs
        self._server: FhirClient = make_fhir_client(settings)
        self._publisher = Publisher(settings.fhir_system, settings.publish_organisation)
        self._patient_system = settings.fhir_patient_system

    def publish(self, outcome: PublishedOutcome) -> None:
        """Create or update the resources of the photograph's study.

        Raises PublicationError if it must not be published, FhirRefusedError, ServiceError.
        """
        photograph = find_photograph(self._pacs, outcome)
        subject = read_subject(photograph, self._patient_system)
        instances = self._list_instances(photograph)
        with _hold_study(self._engine, outcome.run, photograph.path.study) as lock:
            study = self._read_study(outcome, photograph, subject, instances)
            bundle = build_transaction(study, self._publisher)
            if bundle is not None:
                self._server.post(bundle)
            try:
                lock.ensure_held()
            except OverlapError as error:
                # Another publisher may have posted a newer outcome in between.
                raise StoreBusyError(error.detail, code="fhir_overlap") from error
        if unsettled := sum(one.status is Status.QUEUED for one in study.photographs):
            raise StoreBusyError(
                f"{unsettled} photographs of the study wait to be graded",
                code="fhir_study_open",
                retry_after_s=UNSETTLED_PAUSE_S,
            )

    def close(self) -> None:
        """Close the idle connections to the FHIR server."""
        self._server.close()

    def _list_instances(self, photograph: Photograph) -> list[str]:
        found = self._pacs.search("instances", [], study=photograph.path.study)
        return sorted({photograph.path.instance, *(uid for one in found if (uid := read_text(one, INSTANCE_UID)))})

    def _read_study(
        self, outcome: PublishedOutcome, photograph: Photograph, subject: dict[str, Any], instances: list[str]
    ) -> Study:
        return Study(
            run=outcome.run,
            model_id=outcome.model_id,
            model_name=outcome.model_name,
            key=photograph.path.study,
            study_uid=photograph.path.study,
            subject=subject,
            taken=_read_date(photograph),
            photographs=read_outcomes(self._engine, find_run(self._engine, outcome.run), instances),
        )


def read_subject(photograph: Photograph, patient_system: str | None) -> dict[str, Any]:
    """Return the FHIR Identifier of the patient: PatientID in the given system, with its issuer as assigner.

    Raises PublicationError `photograph_header` without a PatientID.
    """
    patient_id = str(photograph.identity.get("PatientID") or "")
    issuer = str(photograph.identity.get("IssuerOfPatientID") or "")
    if not patient_id:
        raise PublicationError("the header has no PatientID, so the result has no patient", code="photograph_header")
    return {
        **({"system": patient_system} if patient_system else {}),
        "value": patient_id,
        **({"assigner": {"display": issuer}} if issuer else {}),
    }


def _read_date(photograph: Photograph) -> date | None:
    try:
        return datetime.strptime(str(photograph.identity.get("StudyDate") or ""), "%Y%m%d").date()  # noqa: DTZ007 - a date
    except ValueError:
        return None


@contextmanager
def _hold_study(engine: Engine, run: str, study: str) -> Iterator[HeldLock]:
    """Hold a study. Raises StoreBusyError if another publisher does for LOCK_PATIENCE_S."""
    name = f"fhir-{zlib.crc32(f'{run}/{study}'.encode()) % LOCKS}"
    ends_at = time.monotonic() + LOCK_PATIENCE_S
    with ExitStack() as stack:
        while True:
            try:
                lock = stack.enter_context(locked(engine, name, lock_s=LOCK_S))
                break
            except OverlapError as error:
                if time.monotonic() >= ends_at:
                    raise StoreBusyError(error.detail, code="fhir_overlap") from error
                time.sleep(LOCK_POLL_S)
        yield lock
