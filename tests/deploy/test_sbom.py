"""`make sbom` lists every package of each image with its version and hashes."""

import json
import re
import subprocess
import sys
from typing import Any

import pytest

from tests.deploy.compose import ROOT


@pytest.fixture(scope="module")
def bill(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The bill of one image. The environment is the one that runs this test."""
    folder = tmp_path_factory.mktemp("sbom")
    options = (f"VENV={sys.prefix}", f"SBOM={folder}", "IMAGES=producer")
    make = ["make", f"--assume-old={sys.prefix}/.dev", "sbom", *options]
    done = subprocess.run(make, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads((folder / "producer.cdx.json").read_text())


def test_bill_has_the_packages_of_the_lock_with_hashes(bill: Any) -> None:
    lock = (ROOT / "deploy" / "locks" / "producer.txt").read_text()
    locked = dict(re.findall(r"(?m)^([\w.-]+)==([^\s;]+)", lock))
    assert (bill["bomFormat"], bill["metadata"]["component"]["name"]) == ("CycloneDX", "fundus-grading")
    assert {part["name"]: part["version"] for part in bill["components"]} == locked
    for part in bill["components"]:
        assert part["purl"].startswith(f"pkg:pypi/{part['name']}@{part['version']}")
        assert any(reference.get("hashes") for reference in part["externalReferences"])


def test_there_is_a_bill_for_each_image() -> None:
    (images,) = re.findall(r"(?m)^IMAGES := (.+)$", (ROOT / "Makefile").read_text())
    copied = set(re.findall(r"COPY deploy/locks/(\w+)\.txt", (ROOT / "deploy" / "Dockerfile").read_text()))
    assert set(images.split()) == copied - {"build"} | {"worker", "gpu"}
