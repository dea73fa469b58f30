"""Write `.env` from `env.example` with a random secret for every `change-me`, readable by its owner only."""

import os
import re
import secrets
import sys
from pathlib import Path

EXAMPLE = Path(__file__).with_name("env.example")
SECRET_BYTES = 24


def write_env(target: Path) -> None:
    """Write `target`. Raises FileExistsError if it exists, as running services use its secrets."""
    lines = EXAMPLE.read_text().splitlines(keepends=True)
    settings = "".join(line if line.startswith("#") else _with_secret(line) for line in lines)
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with open(descriptor, "w") as file:  # noqa: PTH123 - pathlib cannot open a descriptor
        file.write(settings)


def _with_secret(line: str) -> str:
    return re.sub(r"change-me$", lambda _: secrets.token_hex(SECRET_BYTES), line)


if __name__ == "__main__":
    try:
        write_env(Path(sys.argv[1]))
    except FileExistsError:
        sys.exit(f"{sys.argv[1]} exists and is not replaced: running services use its secrets")
