import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from producer.sources.open_source import open_source
from worker.core.errors import SourceError
from worker.core.manifests.admission import make_admission_policy
from worker.core.manifests.image_reference import ImageReference
from worker.core.settings import Settings
from worker.core.storage.storage import Storage

KEY = "Jefe" * 8
ReadSource = Callable[..., list[ImageReference]]


@pytest.fixture
def read_source(make_settings: Callable[..., Settings]) -> ReadSource:
    """Read all references of a source under the admission policy of these settings."""

    def read(source: Path, *allowed: str, **values: object) -> list[ImageReference]:
        settings = make_settings(**values)
        opened = open_source(
            str(source),
            storage=Storage(settings),
            admission=make_admission_policy(settings, allowed),
            on_warning=lambda _: None,
        )
        return list(opened.references)

    return read


@pytest.fixture
def clinic(tmp_path: Path) -> Path:
    folder = tmp_path / "clinic"
    folder.mkdir()
    (folder / "eye.jpg").touch()
    (tmp_path / "secret.jpg").touch()
    (folder / "link.jpg").symlink_to(tmp_path / "secret.jpg")
    return folder


def manifest(folder: Path, content: str) -> Path:
    path = folder / "m.csv"
    path.write_text(content)
    return path


@pytest.mark.parametrize(
    "uri",
    [
        "/etc/passwd",
        "file:///etc/passwd",
        "file://localhost/etc/passwd",
        "FILE:///etc/passwd",
        "../secret.jpg",
        "./a/../../secret.jpg",
        "file:///%2e%2e/etc/passwd",
        "file:///etc%2fpasswd",
        "link.jpg",
        "/proc/self/environ",
        "s3://elsewhere/eye.jpg",
        "s3://overlays/../elsewhere/eye.jpg",
    ],
)
def test_manifest_that_points_out_of_its_folder_is_refused(read_source: ReadSource, clinic: Path, uri: str) -> None:
    with pytest.raises(SourceError, match=r"m.csv, line 2, column uri: .* outside the allowed (folders|prefixes)"):
        read_source(manifest(clinic, f"uri\n{uri}\n"), storage_url="s3://overlays/x")


@pytest.mark.parametrize(
    "uri", ["http://host/eye.jpg", "https://host/eye.jpg", "HTTPS://host/eye.jpg", "ftp://h/e.jpg"]
)
def test_web_addresses_in_a_manifest_are_refused(read_source: ReadSource, clinic: Path, uri: str) -> None:
    with pytest.raises(SourceError, match="is not supported; use file, s3 or dicomweb"):
        read_source(manifest(clinic, f"uri\n{uri}\n"), source_roots="/,s3://host")


def test_manifest_may_name_its_folder_and_the_bucket_of_the_store(read_source: ReadSource, clinic: Path) -> None:
    found = read_source(manifest(clinic, "uri\neye.jpg\ns3://overlays/eye.jpg\n"), storage_url="s3://overlays/x")
    assert [reference.uri for reference in found] == [(clinic / "eye.jpg").as_uri(), "s3://overlays/eye.jpg"]


def test_configured_roots_replace_those_of_a_manifest(read_source: ReadSource, clinic: Path, tmp_path: Path) -> None:
    content = f"uri\n{tmp_path / 'secret.jpg'}\ns3://in/a/eye.jpg\n"
    found = read_source(manifest(clinic, content), source_roots=f"{tmp_path},s3://in/a")
    assert [reference.uri for reference in found] == [(tmp_path / "secret.jpg").as_uri(), "s3://in/a/eye.jpg"]


def test_configured_roots_apply_to_links_in_a_folder(read_source: ReadSource, clinic: Path) -> None:
    assert len(read_source(clinic)) == 2
    with pytest.raises(SourceError, match=r"link.jpg is outside the allowed folders") as caught:
        read_source(clinic, source_roots=str(clinic))
    assert caught.value.code == "reference_not_allowed"


def test_configured_roots_apply_to_a_stack(read_source: ReadSource, clinic: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.zeros((1, 4, 4, 3), np.uint8))
    with pytest.raises(SourceError, match=r"x.npy is outside the allowed folders"):
        read_source(tmp_path / "x.npy", source_roots=str(clinic))


@pytest.mark.parametrize("column", ["name", "Patient Name", "dob", "date_of_birth", "MRN", "record-number"])
def test_personal_column_is_refused_by_name(read_source: ReadSource, clinic: Path, column: str) -> None:
    with pytest.raises(SourceError, match=f"m.csv, line 2, column {column}: looks like personal data") as caught:
        read_source(manifest(clinic, f"uri,{column}\neye.jpg,Jane Roe\n"))
    assert caught.value.code == "personal_column"
    assert "Roe" not in caught.value.detail


def test_personal_key_of_a_json_line_is_refused(read_source: ReadSource, clinic: Path) -> None:
    path = clinic / "m.jsonl"
    path.write_text(json.dumps({"uri": "eye.jpg"}) + "\n" + json.dumps({"uri": "b.jpg", "birthDate": "1950"}) + "\n")
    with pytest.raises(SourceError, match=r"m.jsonl, line 2, column birthDate"):
        read_source(path)


def test_allowed_personal_column_is_ignored_like_any_other(read_source: ReadSource, clinic: Path) -> None:
    (reference,) = read_source(manifest(clinic, "uri,name\neye.jpg,x\n"), "name")
    assert reference == ImageReference((clinic / "eye.jpg").as_uri())


def test_column_may_be_allowed_by_setting(read_source: ReadSource, clinic: Path) -> None:
    (reference,) = read_source(manifest(clinic, "uri,name,mrn\neye.jpg,x,y\n"), allowed_columns="name, mrn")
    assert reference == ImageReference((clinic / "eye.jpg").as_uri())


def test_patient_id_is_replaced_by_its_keyed_hash(read_source: ReadSource, clinic: Path) -> None:
    found = read_source(manifest(clinic, "uri,patient_id\neye.jpg,P-17\nb.jpg,\n"), patient_key=KEY)
    # printf P-17 | openssl dgst -sha256 -hmac JefeJefeJefeJefeJefeJefeJefeJefe
    assert [reference.patient_id for reference in found] == [
        "b7982354eca4f0ce4e9e9e3c292721b2545a81375f538a70dededc4f6395cda5",
        None,
    ]


def test_patient_id_is_kept_without_a_key(read_source: ReadSource, clinic: Path) -> None:
    assert read_source(manifest(clinic, "uri,patient_id\neye.jpg,P-17\n"))[0].patient_id == "P-17"
