"""Every outcome names what computed it, and a run that requires a precision is left to workers that have it."""

import csv
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import Engine, select

from tests.unit.worker.ledger.ledger_rows import MODEL, add_model, add_run, failed, graded, lease, row, run_row
from worker.core.errors import ModelError
from worker.core.messages import GradeChunk
from worker.core.storage.folder_store import FolderStore
from worker.core.vocabulary import Precision
from worker.ledger.configurations import (
    InferenceConfiguration,
    UsedConfiguration,
    read_used_configurations,
    register_configuration,
)
from worker.ledger.database import read_transaction
from worker.ledger.export import export_run
from worker.ledger.export_formats import ExportFormat
from worker.ledger.leases import lease_chunk, settle_chunk
from worker.ledger.runs import find_run
from worker.ledger.schema import inference_configurations

EXACT = InferenceConfiguration(
    model_id=MODEL,
    program_version="0.1.0",
    engine="openvino",
    precision=Precision.FLOAT32,
    device="AMD EPYC 9B14",
    libraries={"openvino": "2026.4.1"},
    recipes=[{"input_size_px": 224}],
    self_test={"inputs": 5, "same_grades": 1.0},
)
ROUNDED = replace(EXACT, precision=Precision.INT8, self_test=None)


@pytest.fixture
def night(engine: Engine) -> int:
    add_model(engine)
    return add_run(engine, ["a", "b", "c"])


def settle(engine: Engine, night: int, image_id: str, configuration: InferenceConfiguration | None) -> None:
    held = lease(engine, night, image_id)
    key = None if configuration is None else register_configuration(engine, configuration)
    settle_chunk(engine, held, [graded(image_id)], {}, model_id=MODEL, configuration_id=key, retry_after_s=60)


def test_configuration_is_registered_once(engine: Engine, night: int) -> None:
    assert register_configuration(engine, EXACT) == register_configuration(engine, EXACT) == EXACT.configuration_id
    register_configuration(engine, ROUNDED)
    with read_transaction(engine) as connection:
        keys = connection.scalars(select(inference_configurations.c.configuration_id)).all()
    assert sorted(keys) == sorted((EXACT.configuration_id, ROUNDED.configuration_id))


@pytest.mark.parametrize("field", ["program_version", "engine", "device", "precision"])
def test_each_field_makes_another_configuration(field: str) -> None:
    assert replace(EXACT, **{field: "other"}).configuration_id != EXACT.configuration_id  # type: ignore[arg-type]


def test_two_precisions_of_one_run_are_distinguished_in_the_export(engine: Engine, night: int, tmp_path: Path) -> None:
    for image_id, configuration in (("a", EXACT), ("b", ROUNDED), ("c", None)):
        settle(engine, night, image_id, configuration)
    export_run(engine, FolderStore(tmp_path), find_run(engine, "night"), ExportFormat.CSV, tmp_path / "out.csv")
    with (tmp_path / "out.csv").open() as file:
        rows = [(one["engine"], one["precision"], one["program_version"]) for one in csv.DictReader(file)]
    assert rows == [("openvino", "float32", "0.1.0"), ("openvino", "int8", "0.1.0"), ("", "", "")]


def test_images_of_a_run_are_counted_by_configuration(engine: Engine, night: int) -> None:
    for image_id, configuration in (("a", EXACT), ("b", EXACT), ("c", None)):
        settle(engine, night, image_id, configuration)
    assert read_used_configurations(engine, night) == ([UsedConfiguration(EXACT, 2)], 1)


def test_outcome_without_a_grade_names_its_configuration(engine: Engine, night: int) -> None:
    held = lease(engine, night, "a")
    key = register_configuration(engine, EXACT)
    settle_chunk(engine, held, [failed("a")], {}, model_id=MODEL, configuration_id=key, retry_after_s=60)
    assert row(engine, "a").configuration_id == key


def test_worker_with_another_precision_leaves_the_run_to_others(engine: Engine) -> None:
    add_model(engine)
    run_id = add_run(engine, ["a"], precision="float32")
    chunk = GradeChunk(run_id=run_id, image_ids=("a",))

    def lease_in(precision: Precision) -> int:
        held = lease_chunk(engine, chunk, model_id=MODEL, precision=precision, lease_s=60, max_attempts=3)
        return len(held.images)

    with pytest.raises(
        ModelError,
        match="run night requires precision float32, this worker computes in bfloat16; fix: start a worker with"
        " FUNDUS_PRECISION=float32",
    ) as caught:
        lease_in(Precision.BFLOAT16)
    assert caught.value.code == "precision_mismatch"
    a = row(engine, "a")
    assert (a.status, a.attempts, a.lease_token, a.error_code) == ("queued", 0, None, "precision_mismatch")
    assert run_row(engine, run_id).model_id is None, "a worker that may not grade the run gave it its model"
    assert lease_in(Precision.FLOAT32) == 1
