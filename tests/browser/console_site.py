"""A running console with photographs, overlays and users, and hostile text for injection tests."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from sqlalchemy import Engine, insert, literal, select, text, update

from tests.services.console import serve_console
from tests.unit.worker.console.accounts_and_runs import add_users, graded_run
from worker.core.settings import Settings, parse_settings
from worker.core.storage.storage import Storage
from worker.core.vocabulary import Eye, Role
from worker.ledger.database import connect, read_transaction, write_transaction
from worker.ledger.migrate import upgrade
from worker.ledger.review_schema import decisions, reading_rules
from worker.ledger.runs import Run
from worker.ledger.schema import gradings, images, models, runs

SAMPLES = Path(__file__).parents[2] / "producer" / "demo" / "samples"
PHOTOGRAPHS = sorted(SAMPLES.glob("IDRiD_*.jpg"))
USERS = {"vera": Role.VIEWER, "anna": Role.GRADER, "ben": Role.GRADER, "cleo": Role.GRADER, "olga": Role.OPERATOR}
THRESHOLDS = (0.5, 0.36, 0.16, 0.44, 0.46)
"""Thresholds of the model that graded the run."""
HOSTILE = "<script>window.harmed=1</script><img src=x onerror=window.harmed=1>"


@dataclass(frozen=True)
class Site:
    """Address, ledger and storage of a running console."""

    address: str
    engine: Engine
    storage: Storage

    def query(self, statement: str) -> list[Any]:
        with read_transaction(self.engine) as connection:
            return [tuple(row) for row in connection.execute(text(statement))]

    def decided(self) -> list[tuple[str, str, int | None]]:
        with read_transaction(self.engine) as connection:
            query = select(decisions.c.image_id, decisions.c.reader, decisions.c.grade).order_by(
                decisions.c.decision_id
            )
            return [tuple(row) for row in connection.execute(query)]


def open_site(folder: Path) -> tuple[Settings, Engine]:
    """Create a ledger with USERS and a store; the sample photographs and `folder`/inbox are allowed as sources."""
    (folder / "inbox").mkdir()
    settings = parse_settings(
        database_url=f"sqlite:///{folder / 'ledger.db'}",
        storage_url=(folder / "store").as_uri(),
        source_roots=f"{SAMPLES},{folder / 'inbox'}",
        decode_processes=1,
    )
    engine = connect(settings, pool_size=20)
    upgrade(engine)
    add_users(engine, **USERS)
    return settings, engine


@contextmanager
def serve_site(folder: Path, grades: list[int | None]) -> Iterator[Site]:
    """Serve a console with a run `night` of images with these grades, which use the samples in turn."""
    settings, engine = open_site(folder)
    run = graded_run(engine, grades)
    storage = Storage(settings)
    _add_photographs(engine, storage, run, len(grades))
    with serve_console(settings, engine) as address:
        yield Site(address, engine, storage)
    engine.dispose()


def draw_overlay(storage: Storage, key: str) -> None:
    """Store a simple overlay: a disc with a bright spot."""
    picture = np.zeros((256, 256, 3), np.uint8)
    cv2.circle(picture, (128, 128), 126, (200, 60, 200), -1)
    cv2.circle(picture, (150, 110), 30, (220, 220, 60), -1)
    storage.overlays.put(key, cv2.imencode(".png", picture)[1].tobytes(), content_type="image/png", metadata={})


def _add_photographs(engine: Engine, storage: Storage, run: Run, count: int) -> None:
    """Set photographs, patients, eyes, one common map and overlay."""
    saliency = np.eye(7, dtype=np.float16).tobytes()
    key = f"{run.name}/overlay.png"
    draw_overlay(storage, key)
    with write_transaction(engine) as connection:
        for number in range(count):
            connection.execute(
                update(images)
                .where(images.c.image_id == f"{number:05d}")
                .values(
                    uri=PHOTOGRAPHS[number % len(PHOTOGRAPHS)].as_uri(),
                    patient_id=f"P-{number // 2:05d}",
                    eye=(Eye.RIGHT, Eye.LEFT)[number % 2],
                    reference_grade=3 if number % 7 == 0 else None,
                )
            )
        graded = update(gradings).where(gradings.c.overlay_key.is_not(None))
        connection.execute(graded.values(overlay_key=key, saliency=saliency))
        connection.execute(update(models).values(document={"thresholds": THRESHOLDS}))


def insert_hostile_text(engine: Engine, image_id: str) -> None:
    """Store markup in every field that a file, a manifest or an error can fill."""
    with write_transaction(engine) as connection:
        uri = f"file:///x/{HOSTILE.replace('/', '')}"
        connection.execute(
            update(images).where(images.c.image_id == image_id).values(uri=uri, patient_id=HOSTILE[:128])
        )
        connection.execute(update(gradings).where(gradings.c.image_id == image_id).values(error_detail=HOSTILE))


def move_photograph(engine: Engine, image_id: str) -> None:
    """Point an image to a file that does not exist."""
    with write_transaction(engine) as connection:
        gone = (SAMPLES / "moved.jpg").as_uri()
        connection.execute(update(images).where(images.c.image_id == image_id).values(uri=gone))


def add_earlier_run(site: Site) -> str:
    """Copy the results of the first two images, the eyes of one patient, into another run; return its name."""
    columns = [column for column in gradings.c if column.name != "run_id"]
    with write_transaction(site.engine) as connection:
        run = connection.execute(select(runs).where(runs.c.name == "night")).one()._asdict()
        values = {name: value for name, value in run.items() if name != "run_id"} | {"name": "before"}
        run_id = connection.execute(insert(runs).values(values).returning(runs.c.run_id)).scalar_one()
        rows = select(literal(run_id), *columns).where(gradings.c.image_id.in_(("00000", "00001")))
        connection.execute(insert(gradings).from_select(["run_id", *(column.name for column in columns)], rows))
    return "before"


def require_two_readers(engine: Engine) -> None:
    with write_transaction(engine) as connection:
        connection.execute(insert(reading_rules).values(run_id=1, readers=2))
