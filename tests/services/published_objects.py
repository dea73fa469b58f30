"""Reports and overlays in a PACS, counted by its own interface, which needs neither ledger nor outbox."""

from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

from tests.services.orthanc import Orthanc

MODALITIES = ("SR", "OT")
"""Of reports and overlays."""


@dataclass(frozen=True)
class StoredObjects:
    """Objects in the PACS by kind. twice: photographs of which one run has stored several of a kind."""

    reports: int
    overlays: int
    twice: int


def read_objects(archive: Orthanc, photographs: Collection[str]) -> StoredObjects:
    """Count the objects about these photographs, given by their SOP Instance UIDs.

    A run has a series of each kind in a study, so that an object that was stored twice is twice in a series.
    """
    stored: Counter[tuple[str, str, str]] = Counter()
    for modality in MODALITIES:
        query = {"Level": "Instance", "Query": {"Modality": modality}}
        for name in archive.client.post("/tools/find", json=query).raise_for_status().json():
            tags = archive.client.get(f"/instances/{name}/simplified-tags").raise_for_status().json()
            (source,) = set(_find_references(tags)) & set(photographs)
            stored[modality, tags["SeriesInstanceUID"], source] += 1
    by_kind = Counter(modality for modality, _, _ in stored.elements())
    return StoredObjects(by_kind["SR"], by_kind["OT"], sum(number > 1 for number in stored.values()))


def _find_references(tags: Any) -> Iterator[str]:
    """Yield each Referenced SOP Instance UID, at any depth."""
    if isinstance(tags, dict):
        for name, value in tags.items():
            if name == "ReferencedSOPInstanceUID":
                yield value
            else:
                yield from _find_references(value)
    elif isinstance(tags, list):
        for item in tags:
            yield from _find_references(item)
