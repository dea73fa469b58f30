"""Publish reports and overlays in the PACS of the settings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from worker.core.errors import ImageError, NothingToRetractError, PublicationError
from worker.core.uris import InstancePath
from worker.core.vocabulary import PublicationKind
from worker.imaging.steps.marked_picture import mark_picture
from worker.publishing.dicom.object_header import Labelling, derive_series_uid
from worker.publishing.dicom.photograph import Photograph, find_photograph
from worker.publishing.dicom.secondary_capture import build_overlay
from worker.publishing.dicom.store_once import find_stored, store_once
from worker.publishing.dicom.structured_report import build_report

if TYPE_CHECKING:
    from worker.core.dicomweb.client import DicomwebClient
    from worker.core.settings import Settings
    from worker.core.storage.object_store import ObjectStore
    from worker.ledger.published_outcomes import EarlierObject, PublishedOutcome


@dataclass(frozen=True, slots=True)
class BuiltObject:
    """An object and the photograph that it is about."""

    photograph: Photograph
    file: bytes


class DicomPublisher:
    """Builds and stores the objects of images; thread-safe."""

    def __init__(self, client: DicomwebClient, overlays: ObjectStore, settings: Settings) -> None:
        """overlays: the store of the overlays that workers uploaded."""
        self._client = client
        self._overlays = overlays
        self._labelling = Labelling(settings.publish_organisation, settings.time_zone)
        self._quality = settings.overlay_quality

    def publish(self, outcome: PublishedOutcome) -> bool:
        """Store the object of an outcome unless it is stored; return whether it was sent.

        Raises PublicationError if it must not be published, NothingToRetractError if the PACS has no such reading,
        ServiceError.
        """
        built = self.build(outcome)
        path = built.photograph.path
        return store_once(
            self._client,
            built.file,
            path.study,
            outcome.publication.uid,
            everywhere=built.photograph.has_moved,
        )

    def build(self, outcome: PublishedOutcome, *, stored: bool = True) -> BuiltObject:
        """Build the object of an outcome from the photograph's present header. Raises as `publish` does.

        stored: whether a report refers only to objects that the PACS has; otherwise to those that were built alike.
        """
        photograph = find_photograph(self._client, outcome)
        if outcome.publication.kind is PublicationKind.OVERLAY:
            return BuiltObject(photograph, self._build_overlay(outcome, photograph))
        find = self._find if stored else _expect
        overlay = find(outcome, photograph, outcome.overlay) if outcome.overlay else None
        earlier = {one.uid: one for one in (outcome.retracted, outcome.predecessor) if one is not None}
        predecessors = [path for one in earlier.values() if (path := find(outcome, photograph, one)) is not None]
        if outcome.retracted is not None and outcome.retracted.uid not in [path.instance for path in predecessors]:
            raise NothingToRetractError("the PACS has no report of the reading that was withdrawn")
        file = build_report(outcome, photograph, self._labelling, overlay=overlay, predecessors=predecessors)
        return BuiltObject(photograph, file)

    def _build_overlay(self, outcome: PublishedOutcome, photograph: Photograph) -> bytes:
        if outcome.overlay_key is None:
            raise PublicationError("retention has deleted the overlay", code="overlay_gone")
        try:
            data = self._overlays.get(outcome.overlay_key)
            picture = mark_picture(data, self._labelling.warning, quality=self._quality)
        except KeyError:
            raise PublicationError("the store has no such overlay", code="overlay_gone") from None
        except ImageError as error:
            raise PublicationError(f"the overlay: {error.detail}", code="overlay_damaged") from error
        return build_overlay(outcome, photograph, self._labelling, picture)

    def _find(self, _: PublishedOutcome, photograph: Photograph, earlier: EarlierObject) -> InstancePath | None:
        """Return where an earlier object is stored now."""
        return find_stored(self._client, photograph.path.study, earlier.uid, everywhere=photograph.has_moved)


def _expect(outcome: PublishedOutcome, photograph: Photograph, earlier: EarlierObject) -> InstancePath:
    """Return where an earlier object is stored once it is published."""
    study = photograph.path.study
    series = derive_series_uid(outcome, earlier.kind, study, is_reading=earlier.is_reading)
    return InstancePath(study, series, earlier.uid)
