"""DICOM files of folders, buckets and manifests are found by content and enter the ledger without a name."""

import hashlib
import hmac
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from producer.runs.register import KnownImage, check_uri_conflicts, index_by_image_id
from producer.sources.dicom_files import HEAD_BYTES, may_be_dicom
from producer.sources.open_source import open_source
from tests.services.dicom_files import wrap_pixels
from tests.services.seaweedfs import Bucket
from worker.core.errors import SettingsError, SourceError
from worker.core.manifests.admission import make_admission_policy
from worker.core.manifests.image_reference import ImageReference
from worker.core.settings import Settings, parse_settings
from worker.core.storage.storage import Storage
from worker.core.vocabulary import Eye

KEY = "k" * 32
PIXELS = np.zeros((4, 6, 3), np.uint8)
MARK = "ZZMARK"
MakeSettings = Callable[..., Settings]


def read(location: Path | str, settings: Settings) -> tuple[list[ImageReference], list[str]]:
    warnings: list[str] = []
    source = open_source(
        str(location),
        storage=Storage(settings),
        admission=make_admission_policy(settings),
        on_warning=warnings.append,
    )
    return list(source.references), warnings


def test_names_that_may_be_dicom() -> None:
    for name in ("a.dcm", "A.DCM", "a.dicom", "IM000001", "1.2.840.113.5", "DICOMDIR"):
        assert may_be_dicom(name), name
    for name in (".hidden", "._a.dcm", "a.jpg", "labels.csv", "Thumbs.db", "2.jpg"):
        assert not may_be_dicom(name), name


def test_folder_gives_uid_eye_and_hashed_patient(tmp_path: Path, make_settings: MakeSettings) -> None:
    (tmp_path / "a.dcm").write_bytes(wrap_pixels(PIXELS, SOPInstanceUID="2.25.1", IssuerOfPatientID="CLINIC A"))
    (tmp_path / "no suffix").write_bytes(wrap_pixels(PIXELS, SOPInstanceUID="2.25.2", ImageLaterality="L"))
    (tmp_path / "oct.dcm").write_bytes(wrap_pixels(PIXELS, SOPClassUID="1.2.840.10008.5.1.4.1.1.77.1.5.4"))
    (tmp_path / "ours.dcm").write_bytes(wrap_pixels(PIXELS, ManufacturerModelName="fundus-grading"))
    (tmp_path / "text").write_bytes(b"not DICOM")
    (tmp_path / "x.jpg").touch()
    (tmp_path / "y.dcm").write_bytes(wrap_pixels(PIXELS, SOPInstanceUID="not a uid"))

    references, warnings = read(tmp_path, make_settings(patient_key=KEY))

    a, no_suffix, x, y = references
    hashed = [hmac.digest(KEY.encode(), text, "sha256").hex() for text in (b"1001^^^CLINIC A", b"1001")]
    assert (a.identity, a.eye, a.patient_id, a.source) == ("2.25.1", Eye.RIGHT, hashed[0], "NW400")
    assert (no_suffix.identity, no_suffix.eye, no_suffix.patient_id) == ("2.25.2", Eye.LEFT, hashed[1])
    assert (a.content_version, a.modified_at is not None) == ("2.25.1", True)
    assert x.image_id is None
    # The worker says what is wrong with a malformed file.
    assert (y.uri, y.image_id) == ((tmp_path / "y.dcm").as_uri(), None)
    assert warnings == [
        f"not image files, ignored in {tmp_path}: 3",
        f"DICOM files that are no photographs to grade, ignored in {tmp_path}: 1 dicom_class, 1 dicom_own_output",
    ]


def test_dicom_is_refused_without_the_patient_key(tmp_path: Path, make_settings: MakeSettings) -> None:
    (tmp_path / "a.dcm").write_bytes(wrap_pixels(PIXELS))
    with pytest.raises(SettingsError, match="FUNDUS_PATIENT_KEY: is not set"):
        read(tmp_path, make_settings())


def test_long_header_is_read_to_its_end(tmp_path: Path, make_settings: MakeSettings) -> None:
    large = wrap_pixels(PIXELS, DerivationDescription="x" * 2 * HEAD_BYTES, ImageLaterality="L")
    (tmp_path / "a.dcm").write_bytes(large)
    ((reference,), _) = read(tmp_path, make_settings(patient_key=KEY))
    assert reference.eye is Eye.LEFT


def test_bucket_gives_the_same(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FUNDUS_PATIENT_KEY", KEY)
    storage = Storage(parse_settings())
    name = storage._settings.storage_url.removeprefix("s3://").partition("/")[0]
    files = {
        "in/a.dcm": wrap_pixels(PIXELS, SOPInstanceUID="2.25.1"),
        "in/b.jpg": b"",
        "in/c": wrap_pixels(PIXELS, SOPInstanceUID="2.25.2", ImageLaterality="L"),
        "in/d.dcm": b"",
        "in/e.txt": b"text",
    }
    for key, body in files.items():
        storage.client.put_object(Bucket=name, Key=key, Body=body)
    references, warnings = read(f"s3://{name}/in/", parse_settings())
    assert [(reference.image_id, reference.eye) for reference in references] == [
        ("2.25.1", Eye.RIGHT),
        (None, Eye.UNKNOWN),
        ("2.25.2", Eye.LEFT),
    ]
    assert warnings == [f"not image files, ignored under s3://{name}/in/: 2"]


def test_manifest_keeps_what_it_says(tmp_path: Path, make_settings: MakeSettings) -> None:
    data = wrap_pixels(PIXELS, SOPInstanceUID="2.25.1")
    (tmp_path / "a.dcm").write_bytes(data)
    digest = hashlib.sha256(data).hexdigest()
    (tmp_path / "m.csv").write_text(f"uri,image_id,eye,sha256\na.dcm,,,{digest}\na.dcm,mine,right,\nmissing.dcm,,,\n")
    (first, second, missing), _ = read(tmp_path / "m.csv", make_settings(patient_key=KEY))
    assert (first.identity, first.eye, first.sha256) == ("2.25.1", Eye.RIGHT, digest)
    assert (second.identity, second.patient_id) == ("mine", first.patient_id)
    assert missing.image_id is None

    (tmp_path / "m.csv").write_text("uri,eye\na.dcm,left\n")
    with pytest.raises(SourceError, match="the manifest has the left eye, the DICOM header the right one; fix: "):
        read(tmp_path / "m.csv", make_settings(patient_key=KEY))


def test_copies_and_moved_files_of_one_instance_are_one_image() -> None:
    first, copy = (ImageReference(f"file:///{name}.dcm", "2.25.1", etag="2.25.1") for name in "ab")
    assert index_by_image_id([first, copy]) == {"2.25.1": first}
    check_uri_conflicts({"2.25.1": copy}, {"2.25.1": KnownImage(first, is_in_run=False)})
    other = ImageReference("file:///c.jpg", "2.25.1")
    with pytest.raises(SourceError, match="is used for both"):
        index_by_image_id([first, other])


def test_no_error_repeats_the_header(tmp_path: Path, make_settings: MakeSettings) -> None:
    (tmp_path / "a.dcm").write_bytes(
        wrap_pixels(PIXELS, SOPInstanceUID=MARK, PatientName=f"{MARK}^{MARK}", PatientBirthDate=MARK[:8])
    )
    references, warnings = read(tmp_path, make_settings(patient_key=KEY))
    assert MARK not in repr((references, warnings))
