"""What `make` sets for all programs."""

import os
import subprocess

from tests.deploy.compose import ROOT


def test_compiled_modules_are_kept() -> None:
    make = ["make", "--no-print-directory", "--eval", 'show: ; @echo "[$${PYTHONDONTWRITEBYTECODE-unset}]"', "show"]
    environment = os.environ | {"PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(make, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[unset]"
