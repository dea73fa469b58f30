"""Nights and runs whose photographs are in a real PACS."""

import os
import subprocess
from collections.abc import Callable, Iterator
from datetime import date, timedelta
from pathlib import Path

import pytest
from sqlalchemy import Engine, func, select

from producer.runs.nightly import NightRequest, NightResult, enqueue_night
from tests.integration.processes import FUNDUS, fundus_json
from tests.services.dicom_objects import Exposure, make_photograph
from tests.services.orthanc import PASSWORD, Orthanc
from worker.core.messaging.broker import make_celery
from worker.core.settings import Settings
from worker.core.storage.storage import Storage
from worker.ledger.database import connect, read_transaction
from worker.ledger.schema import gradings, images

KEY = "0123456789abcdef0123456789abcdef"
PHOTOGRAPH = (Path(__file__).parents[2] / "producer" / "demo" / "samples" / "black-frame.jpg").read_bytes()
FIRST_NIGHT = date(2026, 11, 16)
FillNight = Callable[..., NightResult]


@pytest.fixture
def settings(sqlite_url: str, broker_url: str, pacs: Orthanc, make_settings: Callable[..., Settings]) -> Settings:
    return make_settings(database_url=sqlite_url, broker_url=broker_url, patient_key=KEY)


@pytest.fixture
def engine(settings: Settings) -> Iterator[Engine]:
    engine = connect(settings)
    yield engine
    engine.dispose()


@pytest.fixture
def fill_night(engine: Engine, settings: Settings) -> FillNight:
    """Function that enqueues a night, some days after the first one."""

    def fill(days: int) -> NightResult:
        request = NightRequest("dicomweb://pacs", FIRST_NIGHT + timedelta(days=days))
        return enqueue_night(engine, make_celery(settings), settings, request, on_warning=print)

    return fill


def exposure(name: str, days: int) -> Exposure:
    """An exposure of a study that was taken some days after the first night."""
    return Exposure(study=name, study_date=f"{FIRST_NIGHT + timedelta(days=days):%Y%m%d}")


def add(pacs: Orthanc, name: str, days: int) -> None:
    pacs.add(make_photograph(PHOTOGRAPH, exposure(name, days)))


def count_gradings(engine: Engine) -> tuple[int, int]:
    """Return the numbers of rows and of images."""
    query = select(func.count(), func.count(gradings.c.image_id.distinct())).select_from(gradings)
    with read_transaction(engine) as connection:
        return tuple(connection.execute(query).one())


def test_late_upload_is_found_and_nothing_is_enqueued_twice(
    pacs: Orthanc, engine: Engine, fill_night: FillNight
) -> None:
    add(pacs, "first", 0)
    add(pacs, "long-ago", -15)
    assert (fill_night(0).new, fill_night(0).new) == (1, 0)

    add(pacs, "second", 1)
    add(pacs, "late-upload", -10)
    repeated = fill_night(1)

    assert (repeated.found, repeated.new) == (3, 2)
    assert fill_night(2).new == 0
    assert count_gradings(engine) == (3, 3)


def test_missed_nights_extend_the_dates(pacs: Orthanc, engine: Engine, fill_night: FillNight) -> None:
    fill_night(0)
    add(pacs, "second", 1)

    made_up = fill_night(30)

    assert (made_up.missed, made_up.new) == (29, 1)


def test_study_that_was_moved_is_the_same_image(pacs: Orthanc, engine: Engine, fill_night: FillNight) -> None:
    before = exposure("photograph", 0)
    pacs.add(make_photograph(PHOTOGRAPH, before))
    assert fill_night(0).new == 1
    pacs.clear()
    pacs.add(make_photograph(PHOTOGRAPH, before, StudyInstanceUID="1.2.3", SeriesInstanceUID="1.2.4"))

    assert (fill_night(1).found, fill_night(1).new) == (1, 0)

    with read_transaction(engine) as connection:
        assert connection.scalar(select(images.c.uri)) == f"dicomweb://pacs/1.2.3/1.2.4/{before.instance_uid}"


def test_command_enqueues_photographs_that_the_store_reads(
    pacs: Orthanc, engine: Engine, settings: Settings, tmp_path: Path
) -> None:
    add(pacs, "photograph", 0)
    password = tmp_path / "password"
    password.write_text(PASSWORD)
    env = {
        "FUNDUS_DATABASE_URL": settings.database_url.get_secret_value(),
        "FUNDUS_BROKER_URL": settings.broker_url.get_secret_value(),
        "FUNDUS_STORAGE_URL": settings.storage_url,
        "FUNDUS_PATIENT_KEY": KEY,
        "FUNDUS_DICOMWEB_PASSWORD_FILE": str(password),
    }
    os.environ.pop("FUNDUS_DICOMWEB_PASSWORD")
    source = f"dicomweb://pacs?StudyDate={FIRST_NIGHT:%Y%m%d}"

    done = fundus_json("enqueue", source, "--run", "november", env=env)
    failed = subprocess.run(
        [FUNDUS, "enqueue", source, "--run", "december"],
        env={
            **os.environ,
            **env,
            "FUNDUS_DICOMWEB_URL": f"{pacs.address}/wrong",
            "FUNDUS_SERVICE_RETRY_TIMEOUT_S": "1",
        },
        capture_output=True,
        text=True,
        check=False,
    )

    assert (done["found"], done["new"]) == (1, 1)
    assert failed.returncode == 1
    assert "refuses a search of studies: HTTP 404" in failed.stderr
    assert PASSWORD not in failed.stderr + failed.stdout + str(done)
    with read_transaction(engine) as connection:
        uri = str(connection.scalar(select(images.c.uri)))
    assert PHOTOGRAPH in Storage(settings).sources.read(uri, max_bytes=2**20).data
