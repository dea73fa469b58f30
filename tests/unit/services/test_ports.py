import os
import socket
import subprocess
import sys

from tests.services.ports import reserve_all, reserve_port

RESERVE = "import sys; from tests.services.ports import reserve_all; print(reserve_all([int(sys.argv[1])]))"


def reserve_in_another_process(port: int) -> str:
    done = subprocess.run([sys.executable, "-c", RESERVE, str(port)], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_a_reserved_port_is_refused_to_another_process() -> None:
    assert reserve_in_another_process(reserve_port()) == "False"


def test_a_port_in_use_is_refused() -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        assert not reserve_all([server.getsockname()[1]])


def test_of_several_ports_all_or_none_are_reserved() -> None:
    taken = reserve_port()
    unused = 9_000 + os.getpid() % 1_000  # in no range that tests or servers choose from
    assert not reserve_all([unused, taken])
    assert reserve_in_another_process(unused) == "True"
