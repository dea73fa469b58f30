"""A model is accepted at one site and refused at another, on runs that a real worker grades."""

import csv
import json
from itertools import cycle, islice
from pathlib import Path

import pytest

from tests.integration.processes import fundus, fundus_json, wait_until_finished, worker

SAMPLES = Path(__file__).parents[2] / "producer" / "demo" / "samples"
PHOTOGRAPHS = sorted(SAMPLES.glob("IDRiD_*.jpg"))
COUNT = 110


@pytest.fixture
def env(tmp_path: Path, sqlite_url: str, broker_url: str) -> dict[str, str]:
    return {
        "FUNDUS_DATABASE_URL": sqlite_url,
        "FUNDUS_BROKER_URL": broker_url,
        "FUNDUS_STORAGE_URL": (tmp_path / "store").as_uri(),
        "FUNDUS_SOURCE_ROOTS": str(SAMPLES),
        "FUNDUS_MODEL": "densenet121-aptos-224",
        "FUNDUS_REPORTS": "false",
        "FUNDUS_DECODE_PROCESSES": "1",
        "COLUMNS": "120",
    }


def grade_samples(env: dict[str, str], folder: Path) -> dict[str, int]:
    """Return the model's grade of each sample."""
    fundus("enqueue", str(SAMPLES), "--run", "samples", env=env)
    wait_until_finished("samples", env)
    fundus("export", "samples", "--out", str(folder / "samples.csv"), env=env)
    with (folder / "samples.csv").open(newline="") as file:
        return {Path(row["uri"]).name: int(row["grade"]) for row in csv.DictReader(file) if row["grade"]}


def grade_site(env: dict[str, str], folder: Path, site: str, references: list[tuple[Path, int]]) -> None:
    """Grade a run of COUNT patients of a site, with these reference grades again and again."""
    lines = ["uri,image_id,patient_id,reference_grade"]
    for number, (photograph, reference) in enumerate(islice(cycle(references), COUNT)):
        lines.append(f"{photograph.as_uri()},{site}-{number},{site}-p{number},{reference}")
    (manifest := folder / f"{site}.csv").write_text("\n".join(lines) + "\n")
    fundus("enqueue", str(manifest), "--run", f"{site}-1", "--site", site, env=env)
    status = wait_until_finished(f"{site}-1", env)
    assert (status["graded"], status["site"]) == (COUNT, site)
    assert status["not_validated"] == f"model not validated at this site: {site}"


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_model_is_accepted_where_readers_agree_and_refused_where_it_misses_eyes(
    env: dict[str, str], tmp_path: Path
) -> None:
    with worker(env, tmp_path / "worker.log"):
        grades = grade_samples(env, tmp_path)
        agreed = [(photograph, grades[photograph.name]) for photograph in PHOTOGRAPHS if photograph.name in grades]
        assert {grade >= 2 for _, grade in agreed} == {True, False}
        missed = next(photograph for photograph, grade in agreed if grade < 2)
        grade_site(env, tmp_path, "clinic-a", agreed)
        grade_site(env, tmp_path, "clinic-b", [(one, 3 if one == missed else grade) for one, grade in agreed])

    accepted = fundus("accept", "clinic-a-1", "--site", "clinic-a", env=env).stdout
    assert "clinic-a: densenet121-aptos-224" in accepted
    assert "accepted on run clinic-a-1" in accepted
    refused = fundus("accept", "clinic-b-1", "--site", "clinic-b", env=env, check=False)
    assert refused.returncode == 1
    assert "refused on run clinic-b-1" in refused.stdout
    few = fundus("accept", "samples", "--site", "clinic-a", env=env, check=False)
    assert (few.returncode, "run samples is of no site" in few.stderr) == (2, True)
    print(accepted, refused.stdout)  # noqa: T201

    assert fundus_json("status", "clinic-a-1", env=env)["not_validated"] is None
    assert fundus_json("status", "clinic-b-1", env=env)["not_validated"] is not None
    recorded = [json.loads(line) for line in fundus("audit", "--json", env=env).stdout.splitlines()]
    verdicts = [(one["run"], one["details"]["accepted"]) for one in recorded if one["action"] == "accept"]
    assert verdicts == [("clinic-a-1", True), ("clinic-b-1", False)]
