"""Run the services of a Compose project without a container engine, in Linux namespaces.

Each service has its own root: a disposable overlay of this machine's, with the service's volumes, configurations and
temporary folders, read-only where Compose says so. All services share one isolated network with loopback only, in which
each service's name resolves to 127.0.0.1. Not emulated: the user of an image, limits and several networks.
"""

import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.deploy.compose import ROOT
from tests.deploy.images import BINARIES, ENVIRONMENT, Image
from tests.services.process import Server, start_server

TOOLS = ("unshare", "nsenter", "setpriv", "chroot", "mount", "wget")
HEALTHY_WITHIN_S = 240
OVERLAY = """set -e
mount -t tmpfs none "$PWD"
cd "$PWD"
mkdir upper work root
mount -t overlay overlay -o lowerdir=/,upperdir=$PWD/upper,workdir=$PWD/work root
"""
LOOPBACK_UP = """
import fcntl, signal, socket, struct
with socket.socket() as any_socket:
    fcntl.ioctl(any_socket, 0x8914, struct.pack("16sh14x", b"lo", 1))
print("up", flush=True)
signal.pause()
"""


def find_obstacle() -> str | None:
    """Return why this machine cannot run services this way; None if it can."""
    if os.geteuid() != 0:
        return "needs root to mount an overlay over /"
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if missing:
        return f"not installed: {', '.join(missing)}"
    tried = subprocess.run(
        ["unshare", "--net", "--mount", "/bin/sh", "-c", f"cd /mnt; {OVERLAY}"],
        capture_output=True,
        text=True,
        check=False,
    )
    return None if tried.returncode == 0 else f"no namespaces or no overlay: {tried.stderr.strip()}"


@dataclass(frozen=True)
class Container:
    """A started service."""

    name: str
    command: Sequence[str]
    server: Server
    environment: Mapping[str, str]
    health: Sequence[str]
    """Health check as in Compose: `CMD` and arguments, `CMD-SHELL` and a line, or empty."""

    @property
    def log(self) -> str:
        return self.server.log.read_text(errors="replace")

    def wait(self, within_s: float) -> int:
        return self.server.process.wait(within_s)

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command in the container, as `docker exec` does."""
        return subprocess.run(
            ["nsenter", f"--target={self.server.process.pid}", "--net", "--mount", "--root", "--wd", *command],
            env=dict(self.environment),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def wait_until_healthy(self) -> None:
        """Wait until the health check passes. Raises RuntimeError with the end of the log."""
        kind, *arguments = self.health
        command = ["/bin/sh", "-c", *arguments] if kind == "CMD-SHELL" else arguments
        deadline = time.monotonic() + HEALTHY_WITHIN_S
        while (done := self.run(*command)).returncode != 0:
            if self.server.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{self.name} is not healthy: {done.stdout}{done.stderr}\n{self.log[-3000:]}")
            time.sleep(0.2)


class Machine:
    """Starts the services of one project. Volumes live as long as `folder`."""

    def __init__(self, project: Any, folder: Path, network: int) -> None:
        self._project = project
        self.folder = folder
        self._network = network
        self._hosts = "127.0.0.1 localhost " + " ".join(project["services"])

    def start(self, name: str, image: Image, *arguments: str) -> Container:
        """Start a service as Compose would. `arguments` replace its command, as in `docker compose run`."""
        service = self._project["services"][name]
        command = [*(service.get("entrypoint") or image.entrypoint)]
        command += arguments or service.get("command") or image.command
        environment = {**image.environment, **(service.get("environment") or {})}
        own = self.folder / f"{name}-{len(list(self.folder.glob(f'{name}-*')))}"
        (own / "bin").mkdir(parents=True)
        for program, content in image.programs.items():
            if isinstance(content, Path):
                (own / "bin" / program).symlink_to(content)
            else:
                (own / "bin" / program).write_text(content)
                (own / "bin" / program).chmod(0o755)
        script = "\n".join([*self._make_root(service, own), _enter(service, image, command)])
        outer = ["nsenter", f"--target={self._network}", "--net", "unshare", "--mount", "/bin/sh", "-c", script]
        server = start_server(outer, own / f"{name}.log", environment=environment, inherit_environment=False)
        while server.process.poll() is None and not _has_own_root(server.process.pid):
            time.sleep(0.01)
        check = service.get("healthcheck") or {}
        health = () if check.get("disable") else check.get("test") or image.health
        return Container(name, command, server, environment, health)

    def _make_root(self, service: Any, own: Path) -> Iterator[str]:
        root = own / "tree" / "root"
        yield f"mkdir {own}/tree; cd {own}/tree; {OVERLAY}"
        yield 'for each in proc sys dev; do mount --rbind "/$each" "root/$each"; done'
        # Resolve links inside the new root, so that none leads into this machine's folders.
        yield f'at() {{ echo "{root}$(chroot root readlink -m "$1")"; }}'
        yield 'folder() { mkdir -p "$(at "$1")"; }'
        yield 'show() { folder "$2"; mount --rbind "$1" "$(at "$2")"; }'
        yield 'shut() { mount -o remount,bind,ro "$(at "$1")"; }'
        for place in service.get("tmpfs", ()):
            target, _, options = place.partition(":")
            yield f"folder {target}; mount -t tmpfs -o {options or 'rw'} none $(at {target})"
        # The programs are in folders of this machine.
        for kept in dict.fromkeys((str(ROOT), sys.prefix, sys.base_prefix)):
            yield f"show {shlex.quote(kept)} {shlex.quote(kept)}; shut {shlex.quote(kept)}"
        yield f"show {own}/bin {BINARIES}; show {shlex.quote(sys.prefix)} {ENVIRONMENT}; shut {ENVIRONMENT}"
        for volume in service.get("volumes", ()):
            source = Path(volume["source"])
            if volume["type"] == "volume":
                source = self.folder / "volumes" / volume["source"]
                source.mkdir(parents=True, exist_ok=True)
            target = volume["target"]
            yield f"show {shlex.quote(str(source))} {target}"
            if volume.get("read_only"):
                yield f"shut {target}"
        for config in service.get("configs", ()):
            content = self._project["configs"][config["source"]]["content"]
            yield f"printf %s {shlex.quote(content)} >$(at {config['target']})"
        yield f"rm -f root/etc/hosts; echo {shlex.quote(self._hosts)} >root/etc/hosts"


@contextmanager
def machine(project: Any, folder: Path) -> Iterator[Machine]:
    """Create an isolated network for the project's services; stop the services before leaving."""
    folder.mkdir(parents=True)
    holder = subprocess.Popen(
        ["unshare", "--net", sys.executable, "-c", LOOPBACK_UP], stdout=subprocess.PIPE, stdin=subprocess.DEVNULL
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"up\n"
        yield Machine(project, folder, holder.pid)
    finally:
        holder.kill()
        holder.wait()
        assert holder.stdout is not None
        holder.stdout.close()


def _enter(service: Any, image: Image, command: Sequence[str]) -> str:
    """Return the last lines of the script: make the root read-only, enter it, drop privileges, exec the service."""
    dropped = ["--no-new-privs"] if "no-new-privileges:true" in service.get("security_opt", ()) else []
    if service.get("cap_drop") == ["ALL"]:
        dropped += ["--bounding-set=-all", "--inh-caps=-all"]
    # In a user namespace without a map, the process is not root, but its files still belong to us.
    enter = ["unshare", "--user", "--root=root"] if image.never_root else ["chroot", "root"]
    inside = ["/bin/sh", "-c", f'cd {image.folder}; exec "$@"', "-", "setpriv", *dropped, *command]
    make_read_only = "mount -o remount,ro root" if service.get("read_only") else ""
    return f"folder {image.folder}\n{make_read_only}\nexec {shlex.join([*enter, *inside])}"


def _has_own_root(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/root").readlink() != Path("/")
    except FileNotFoundError:  # it has just exited
        return True
