"""Instances of a real PACS that it lacks or refuses, and a PACS that serves nothing."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.services.dicom_objects import Exposure, make_photograph
from tests.services.orthanc import REFUSED_UID, Orthanc
from worker.core.errors import ImageMissingError, ImageRefusedError, ObjectRefusedError, StorageError
from worker.core.settings import Settings
from worker.core.storage.storage import Storage
from worker.core.uris import InstancePath, dicomweb_uri
from worker.inference.image_source import MAX_REFUSALS, ImageSource
from worker.ledger.leases import LeasedImage

SAMPLES = Path(__file__).parents[4] / "producer" / "demo" / "samples"
PHOTOGRAPH = (SAMPLES / "black-frame.jpg").read_bytes()
SERVED, REFUSED, MISSING = Exposure(), Exposure(uid=REFUSED_UID), Exposure(name="missing")

MakeSettings = Callable[..., Settings]


def uri_of(exposure: Exposure) -> str:
    return dicomweb_uri(InstancePath(exposure.study_uid, exposure.series_uid, exposure.instance_uid))


class Reader:
    """Reads exposures as a worker does."""

    def __init__(self, settings: Settings, graded: Exposure | None) -> None:
        self._storage = Storage(settings, request_attempts=1)
        graded_uri = None if graded is None else uri_of(graded)
        self._source = ImageSource(self._storage.sources, lambda _run, _store: graded_uri, patience_s=30)

    def read(self, exposure: Exposure, *, refusals: int = 0) -> bytes:
        image = LeasedImage(exposure.instance_uid, uri_of(exposure), None, 1, refusals)
        return self._source.read(image, 1, lambda: self._storage.sources.read(image.uri, max_bytes=2**20).data)


def test_refused_instance_fails_after_three_refusals_while_another_is_served(
    pacs: Orthanc, make_settings: MakeSettings
) -> None:
    pacs.add(*(make_photograph(PHOTOGRAPH, exposure) for exposure in (SERVED, REFUSED)))
    reader = Reader(make_settings(), graded=SERVED)

    with pytest.raises(ObjectRefusedError, match="HTTP 403"):
        reader.read(REFUSED, refusals=MAX_REFUSALS - 2)
    with pytest.raises(ImageRefusedError, match="HTTP 403; refused 3 times, while the store served another object"):
        reader.read(REFUSED, refusals=MAX_REFUSALS - 1)
    assert PHOTOGRAPH in reader.read(SERVED)


def test_refused_instance_goes_back_to_the_queue_while_none_is_served(
    pacs: Orthanc, make_settings: MakeSettings
) -> None:
    pacs.add(make_photograph(PHOTOGRAPH, REFUSED))

    for graded in (None, MISSING):
        with pytest.raises(ObjectRefusedError, match="HTTP 403"):
            Reader(make_settings(), graded=graded).read(REFUSED, refusals=MAX_REFUSALS)


def test_missing_instance_is_the_image_s_fault(pacs: Orthanc, make_settings: MakeSettings) -> None:
    pacs.add(make_photograph(PHOTOGRAPH, SERVED))

    with pytest.raises(ImageMissingError) as caught:
        Reader(make_settings(), graded=None).read(MISSING)

    assert caught.value.code == "image_missing"


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/dicom-web", None])
def test_pacs_that_is_away_or_not_named_fails_no_image(
    pacs: Orthanc, make_settings: MakeSettings, url: str | None
) -> None:
    reader = Reader(make_settings(dicomweb_url=url), graded=None)

    with pytest.raises(StorageError) as caught:
        reader.read(SERVED)

    assert caught.value.code == "storage_unavailable"
