"""`fundus console user` and `fundus console serve` as real processes."""

import os
import signal
import socket
import subprocess
import time
from pathlib import Path

import httpx
import pytest

from tests.integration.processes import FUNDUS, READY_WITHIN_S, fundus
from tests.services.console_client import ConsoleClient
from tests.services.ports import reserve_port

PASSWORD = "a long enough one"


@pytest.fixture
def env(sqlite_url: str, tmp_path: Path) -> dict[str, str]:
    return {"FUNDUS_DATABASE_URL": sqlite_url, "FUNDUS_STORAGE_URL": (tmp_path / "store").as_uri()}


def manage_users(env: dict[str, str], *arguments: str, password: str = "") -> tuple[int, str]:
    """Run `fundus console user`; return its exit status and output."""
    done = fundus("console", "user", *arguments, env=env, given=password, check=False)
    return done.returncode, done.stdout + done.stderr


def test_users_are_managed_by_commands(env: dict[str, str]) -> None:
    assert manage_users(env, "list") == (0, "No users yet. Add one with: fundus console user add NAME --role grader\n")
    assert manage_users(env, "add", "anna", "--role", "grader", password=f"{PASSWORD}\n") == (
        0,
        "added user anna with the role grader\n",
    )
    status, output = manage_users(env, "add", "anna", password=f"{PASSWORD}\n")
    assert (status, output) == (2, "error[user_invalid]: user 'anna' already exists\n")
    status, output = manage_users(env, "add", "ben", password="")
    assert (status, output) == (2, "error[usage]: standard input contains no password\n")
    status, output = manage_users(env, "add", "ben", password="short\n")
    assert (status, output) == (2, "error[usage]: password has 5 characters; it must have 12 to 256\n")
    assert manage_users(env, "role", "anna", "operator") == (0, "anna now has the role operator\n")
    assert manage_users(env, "disable", "anna") == (0, "disabled anna\n")
    status, output = manage_users(env, "list", "--json")
    assert '"name": "anna", "role": "operator"' in output
    assert "argon2" not in output
    assert manage_users(env, "disable", "ben")[0] == 2


def test_password_is_rejected_as_an_argument(env: dict[str, str]) -> None:
    assert manage_users(env, "add", "anna", PASSWORD)[0] == 2
    assert "--password" not in manage_users(env, "add", "--help")[1]


def test_console_serves_until_it_is_stopped(env: dict[str, str]) -> None:
    manage_users(env, "add", "anna", "--role", "grader", password=PASSWORD)
    port = reserve_port()
    process = subprocess.Popen(
        [FUNDUS, "console", "serve", "--port", str(port)], env={**os.environ, **env}, stderr=subprocess.PIPE, text=True
    )
    try:
        address = f"http://127.0.0.1:{port}"
        _wait(f"{address}/healthz", process)
        with ConsoleClient(address) as anna:
            assert "No runs yet" in anna.sign_in("anna", PASSWORD).text
        with socket.socket() as elsewhere, pytest.raises(OSError, match="refused"):
            # The console listens on 127.0.0.1 only.
            elsewhere.connect(("127.0.0.2", port))
    finally:
        process.send_signal(signal.SIGTERM)
        _, output = process.communicate(timeout=60)
    assert process.returncode in (0, -signal.SIGTERM)
    assert f"note: console listening on {address}" in output
    assert "Traceback" not in output


@pytest.mark.parametrize(
    ("arguments", "variables", "complaint"),
    [
        (["--host", "0.0.0.0"], {}, "error[settings_invalid]: cannot serve on 0.0.0.0 without FUNDUS_CONSOLE_URL"),
        ([], {"FUNDUS_CONSOLE_URL": "http://10.0.0.1"}, "error[settings_invalid]: FUNDUS_CONSOLE_URL: must be https"),
        (["--key", "key.pem"], {}, "error[usage]: --certificate and --key must be given together"),
    ],
)
def test_unsafe_options_are_rejected(
    arguments: list[str], variables: dict[str, str], complaint: str, env: dict[str, str]
) -> None:
    done = fundus("console", "serve", *arguments, env=env | variables, check=False)
    assert done.returncode == 2
    assert complaint in done.stderr


def _wait(url: str, process: "subprocess.Popen[str]") -> None:
    until = time.monotonic() + READY_WITHIN_S
    while time.monotonic() < until and process.poll() is None:
        try:
            if httpx.get(url).status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.1)
    raise AssertionError(f"{url} does not answer")
