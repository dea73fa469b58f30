"""Validate FHIR R4 resources with three independent validators; the one in JavaScript only where Node.js has it."""

import json
import os
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import fhirkit
from fhir.resources.R4B.bundle import Bundle

NODE_MODULES = "FUNDUS_TEST_NODE_MODULES"
"""Variable with the folder `node_modules` that has the package `fhir`: `npm install fhir@4.12.0`."""
_SCRIPT = """
const {Fhir} = require('fhir');
const bundle = JSON.parse(require('fs').readFileSync(0));
const found = new Fhir().validate(bundle, {errorOnUnexpected: true});
console.log(JSON.stringify(found.messages.filter(message => ['error', 'fatal'].includes(message.severity))));
"""


def find_errors(bundle: dict[str, Any]) -> list[str]:
    """Return the errors that any validator finds; each names its validator."""
    text = json.dumps(bundle)
    errors = [f"fhirkit: {issue}" for issue in fhirkit.validate(text)]
    try:
        Bundle.model_validate_json(text)
    except ValueError as error:
        errors.append(f"fhir.resources: {error}")
    if why_no_node() is None:
        environment = {**os.environ, "NODE_PATH": os.environ[NODE_MODULES]}
        done = subprocess.run(
            ["node", "-e", _SCRIPT], input=text, env=environment, capture_output=True, check=True, text=True
        )
        errors += [f"fhir.js: {message}" for message in json.loads(done.stdout)]
    return errors


@cache
def why_no_node() -> str | None:
    """Why the validator in JavaScript cannot run; None if it can."""
    if shutil.which("node") is None:
        return "no Node.js"
    if not (Path(os.environ.get(NODE_MODULES, "/none")) / "fhir").is_dir():
        return f"{NODE_MODULES} names no folder with the package fhir"
    return None
