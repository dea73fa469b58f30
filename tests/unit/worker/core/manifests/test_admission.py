import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from producer.sources.open_source import open_source
from worker.core.errors import SourceError
from worker.core.manifests.admission import make_door
from worker.core.manifests.image_reference import Reference
from worker.core.settings import Settings
from worker.core.storage.object_store import Storage

KEY = "Jefe" * 8
Enter = Callable[..., list[Reference]]


@pytest.fixture
def enter(make_settings: Callable[..., Settings]) -> Enter:
    """All references of a source that the door of these settings lets in."""

    def enter(source: Path, *allowed: str, **values: object) -> list[Reference]:
        settings = make_settings(**values)
        opened = open_source(
            str(source), storage=Storage(settings), door=make_door(settings, allowed), remark=lambda _: None
        )
        return list(opened.references)

    return enter


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
def test_manifest_that_leads_out_of_its_folder_is_refused(enter: Enter, clinic: Path, uri: str) -> None:
    with pytest.raises(SourceError, match=r"m.csv, line 2, column uri: .* in no (folder|place) that may be read"):
        enter(manifest(clinic, f"uri\n{uri}\n"), storage_url="s3://overlays/x")


@pytest.mark.parametrize(
    "uri", ["http://host/eye.jpg", "https://host/eye.jpg", "HTTPS://host/eye.jpg", "ftp://h/e.jpg"]
)
def test_manifest_never_names_a_web_address(enter: Enter, clinic: Path, uri: str) -> None:
    with pytest.raises(SourceError, match="is neither file nor s3"):
        enter(manifest(clinic, f"uri\n{uri}\n"), source_roots="/,s3://host")


def test_manifest_may_name_its_folder_and_the_bucket_of_the_store(enter: Enter, clinic: Path) -> None:
    found = enter(manifest(clinic, "uri\neye.jpg\ns3://overlays/eye.jpg\n"), storage_url="s3://overlays/x")
    assert [reference.uri for reference in found] == [(clinic / "eye.jpg").as_uri(), "s3://overlays/eye.jpg"]


def test_roots_allow_a_manifest_more(enter: Enter, clinic: Path, tmp_path: Path) -> None:
    content = f"uri\n{tmp_path / 'secret.jpg'}\ns3://in/a/eye.jpg\n"
    found = enter(manifest(clinic, content), source_roots=f"{tmp_path},s3://in/a")
    assert [reference.uri for reference in found] == [(tmp_path / "secret.jpg").as_uri(), "s3://in/a/eye.jpg"]


def test_roots_bind_a_folder_with_a_link_out_of_it(enter: Enter, clinic: Path) -> None:
    assert len(enter(clinic)) == 2
    with pytest.raises(SourceError, match=r"link.jpg is in no folder that may be read") as caught:
        enter(clinic, source_roots=str(clinic))
    assert caught.value.code == "reference_not_allowed"


def test_roots_bind_a_stack(enter: Enter, clinic: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.zeros((1, 4, 4, 3), np.uint8))
    with pytest.raises(SourceError, match=r"x.npy is in no folder that may be read"):
        enter(tmp_path / "x.npy", source_roots=str(clinic))


@pytest.mark.parametrize("column", ["name", "Patient Name", "dob", "date_of_birth", "MRN", "record-number"])
def test_column_that_names_a_person_is_refused_by_name(enter: Enter, clinic: Path, column: str) -> None:
    with pytest.raises(SourceError, match=f"m.csv, line 2, column {column}: looks as if it named a person") as caught:
        enter(manifest(clinic, f"uri,{column}\neye.jpg,Jane Roe\n"))
    assert caught.value.code == "personal_column"
    assert "Roe" not in caught.value.detail


def test_json_line_that_names_a_person_is_refused(enter: Enter, clinic: Path) -> None:
    path = clinic / "m.jsonl"
    path.write_text(json.dumps({"uri": "eye.jpg"}) + "\n" + json.dumps({"uri": "b.jpg", "birthDate": "1950"}) + "\n")
    with pytest.raises(SourceError, match=r"m.jsonl, line 2, column birthDate"):
        enter(path)


def test_allowed_column_is_left_out_like_any_other(enter: Enter, clinic: Path) -> None:
    (reference,) = enter(manifest(clinic, "uri,name\neye.jpg,x\n"), "name")
    assert reference == Reference((clinic / "eye.jpg").as_uri())


def test_column_may_be_allowed_by_setting(enter: Enter, clinic: Path) -> None:
    (reference,) = enter(manifest(clinic, "uri,name,mrn\neye.jpg,x,y\n"), allowed_columns="name, mrn")
    assert reference == Reference((clinic / "eye.jpg").as_uri())


def test_patient_goes_under_a_keyed_hash(enter: Enter, clinic: Path) -> None:
    found = enter(manifest(clinic, "uri,patient_id\neye.jpg,P-17\nb.jpg,\n"), patient_key=KEY)
    # printf P-17 | openssl dgst -sha256 -hmac JefeJefeJefeJefeJefeJefeJefeJefe
    assert [reference.patient_id for reference in found] == [
        "b7982354eca4f0ce4e9e9e3c292721b2545a81375f538a70dededc4f6395cda5",
        None,
    ]


def test_without_a_key_the_patient_keeps_his_id(enter: Enter, clinic: Path) -> None:
    assert enter(manifest(clinic, "uri,patient_id\neye.jpg,P-17\n"))[0].patient_id == "P-17"
