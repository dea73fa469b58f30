import json
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine

from tests.services.fhir_validators import find_errors
from tests.unit.producer.ledger_rows import MODEL, add_model, change, fail, grade, make_run
from tests.unit.worker.console.accounts_and_runs import add_session_user, graded_run
from worker.console.decisions import ReviewForm, record_decision
from worker.console.image_detail import read_image_detail
from worker.core.errors import UsageError
from worker.core.fhir.resources import Publisher
from worker.core.manifests.image_reference import ImageReference
from worker.core.storage.folder_store import FolderStore
from worker.core.vocabulary import Eye, Status
from worker.ledger.database import write_transaction
from worker.ledger.export import export_run
from worker.ledger.export_formats import ExportFormat
from worker.ledger.runs import Run, find_run
from worker.ledger.schema import runs

SYSTEM = "https://clinic.example/fundus"
STUDY, SERIES = "1.2.840.99.1", "1.2.840.99.1.1"
STORE = FolderStore(Path("/store"))


def export(engine: Engine, run: Run, out: Path) -> list[dict[str, Any]]:
    """Export the run as FHIR and return the bundles."""
    with write_transaction(engine) as connection:  # done by the first lease
        connection.execute(runs.update().values(model_id=MODEL))
    lines = export_run(engine, STORE, find_run(engine, run.name), ExportFormat.FHIR, out, Publisher(SYSTEM))
    bundles = [json.loads(line) for line in out.read_text().splitlines()]
    assert len(bundles) == lines
    return bundles


def resources(bundles: Sequence[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    found = [entry["resource"] for bundle in bundles for entry in bundle["entry"]]
    return [one for one in found if one["resourceType"] == kind]


def dicom(instance: int, eye: Eye, study: str = STUDY) -> ImageReference:
    uid = f"{SERIES}.{instance}"
    uri = f"dicomweb://pacs/{study}/{SERIES}/{uid}"
    return ImageReference(uri, uid, f"patient of {study}", eye, study_date=date(2026, 11, 21))


def test_photographs_of_a_study_are_one_valid_transaction(engine: Engine, tmp_path: Path) -> None:
    add_model(engine)
    other = f"{STUDY}.9"
    photographs = [
        dicom(1, Eye.RIGHT), dicom(2, Eye.RIGHT), dicom(3, Eye.LEFT), dicom(4, Eye.RIGHT, other), dicom(5, Eye.UNKNOWN)
    ]  # fmt: skip
    run = make_run(engine, "night", photographs)
    for instance, given in ((1, 1), (2, 3), (4, 0), (5, 2)):
        grade(engine, run, f"{SERIES}.{instance}", given, p_ge3=0.1234567)
    fail(engine, run, f"{SERIES}.3", "blurred", Status.UNGRADABLE)

    bundles = export(engine, run, tmp_path / "out.ndjson")

    assert [find_errors(bundle) for bundle in bundles] == [[], []]
    assert [one["identifier"][0]["value"] for one in resources(bundles, "DiagnosticReport")] == [
        f"night/{STUDY}/{MODEL}",
        f"night/{other}/{MODEL}",
    ]
    right, left, of_other = resources(bundles, "Observation")
    assert right["valueCodeableConcept"]["text"] == "Severe non-proliferative retinopathy"
    assert [one["identifier"]["value"] for one in right["derivedFrom"]] == [
        f"urn:oid:{uid}" for uid in (STUDY, f"{SERIES}.1", f"{SERIES}.2")
    ]
    assert right["component"][3]["valueQuantity"]["value"] == 0.1234567
    assert {one["effectiveDateTime"] for one in (right, left, of_other)} == {"2026-11-21"}
    assert left["dataAbsentReason"]["text"] == "Not gradable: blurred"
    assert of_other["subject"]["identifier"] == {"system": f"{SYSTEM}/patient", "value": f"patient of {other}"}
    assert "unknown eye, which are not reported: 1." in resources(bundles, "DiagnosticReport")[0]["conclusion"]


def test_without_a_study_the_photographs_of_a_patient_belong_together(engine: Engine, tmp_path: Path) -> None:
    add_model(engine)
    run = make_run(
        engine,
        "night",
        [
            ImageReference("s3://clinic/a.jpg", "a", 'Doe, "J"|$\\', Eye.LEFT, study_date=date(2026, 11, 21)),
            ImageReference("s3://clinic/b.jpg", "b", 'Doe, "J"|$\\', Eye.RIGHT, study_date=date(2026, 11, 22)),
            ImageReference("s3://clinic/c.jpg", "c", None, Eye.RIGHT),
            ImageReference("s3://clinic/d.jpg", "d", None, Eye.RIGHT),
        ],
    )
    for image_id in "abcd":
        grade(engine, run, image_id, 0)

    bundles = export(engine, run, tmp_path / "out.ndjson")

    assert sorted(len(resources([bundle], "Observation")) for bundle in bundles) == [1, 1, 2]
    assert all(find_errors(bundle) == [] for bundle in bundles)
    urls = [entry["request"]["url"] for bundle in bundles for entry in bundle["entry"]]
    assert "Doe" not in "".join(urls)
    subjects = [one.get("subject") for one in resources(bundles, "Observation")]
    assert subjects.count(None) == 2
    # Photographs of two days have no date in common.
    assert not any("effectiveDateTime" in one for one in resources(bundles, "Observation"))


def test_reviews_make_results_final_and_later_ones_amend_them(engine: Engine, tmp_path: Path) -> None:
    run = graded_run(engine, [2, 0, 2, 1])
    with write_transaction(engine) as connection:
        connection.exec_driver_sql("UPDATE images SET eye = 'right'")
    anna, ben, cleo = (add_session_user(engine, name) for name in ("anna", "ben", "cleo"))

    def review(image_id: str, user: Any, given: int | None, last: int = 0) -> int:
        image = read_image_detail(engine, "night", image_id)
        assert image is not None
        form = ReviewForm(given, "why", image.model_result, last)
        return record_decision(engine, "night", image_id, user, form, default_readers=2)

    review("00000", anna, 1)
    review("00001", anna, 0)
    last = review("00001", ben, 3)
    review("00002", anna, 2)
    last_of_read = review("00002", ben, 2)
    statuses = _statuses(export(engine, run, tmp_path / "first"))
    assert statuses == {
        "00000": ("preliminary", "LA18645-4"),
        # Readers disagree: the worse grade counts until a third one has decided.
        "00001": ("preliminary", "LA18646-2"),
        "00002": ("final", "LA18645-4"),
        "00003": ("preliminary", "LA18644-7"),
    }

    review("00001", cleo, 1, last)
    review("00002", cleo, 0, last_of_read)
    statuses = _statuses(export(engine, run, tmp_path / "second"))
    assert statuses["00001"] == ("final", "LA18644-7")
    assert statuses["00002"] == ("amended", "LA18643-9")


def _statuses(bundles: Sequence[dict[str, Any]]) -> dict[str, tuple[str, str]]:
    """Status and LOINC answer by image id."""
    return {
        one["derivedFrom"][-1]["identifier"]["value"]: (
            one["status"],
            one["valueCodeableConcept"]["coding"][0]["code"],
        )
        for one in resources(bundles, "Observation")
    }


def test_images_of_later_pages_join_their_study(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.ledger.study_outcomes.PAGE_ROWS", 2)
    add_model(engine)
    # Ordered by image id, the two studies alternate.
    run = make_run(engine, "night", [dicom(n, Eye.RIGHT, f"{STUDY}.{n % 2}") for n in range(1, 8)])
    for instance in range(1, 8):
        grade(engine, run, f"{SERIES}.{instance}", 0)

    bundles = export(engine, run, tmp_path / "out")

    assert [len(one["derivedFrom"]) for one in resources(bundles, "Observation")] == [1 + 3, 1 + 4]


def test_run_that_no_worker_has_taken_has_no_transaction(engine: Engine, tmp_path: Path) -> None:
    run = make_run(engine, "night", [dicom(1, Eye.RIGHT)])

    assert export_run(engine, STORE, run, ExportFormat.FHIR, tmp_path / "out", Publisher(SYSTEM)) == 0


def test_fhir_without_a_system_names_the_setting(engine: Engine, tmp_path: Path) -> None:
    run = make_run(engine, "night", [])

    with pytest.raises(UsageError, match="needs FUNDUS_FHIR_SYSTEM"):
        export_run(engine, STORE, run, ExportFormat.FHIR, tmp_path / "out")


def test_program_version_comes_from_the_configuration(engine: Engine, tmp_path: Path) -> None:
    add_model(engine)
    run = make_run(engine, "night", [dicom(1, Eye.RIGHT)])
    grade(engine, run, f"{SERIES}.1", 0)
    change(engine, run, f"{SERIES}.1", configuration_id=None)

    (device,) = resources(export(engine, run, tmp_path / "out"), "Device")

    assert device["identifier"][0]["value"] == MODEL
