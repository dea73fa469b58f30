"""Check the model bundle and the device where the extra `worker` is installed."""

import json
import subprocess
import sys

from producer.doctor.check import Check, CheckStatus
from worker.core.machine import has_worker_packages
from worker.core.settings import Settings

TIMEOUT_S = 180

# In a subprocess: a broken driver may crash it, and this process stays free of TensorFlow.
_PROBE = """
import json, sys
from worker.core.errors import FundusError
from worker.model.bundle.ensemble import load_golden_inputs, load_model
try:
    bundle = load_model(sys.argv[1])
    from worker.model.engines.self_test import start_engine
    golden = load_golden_inputs(sys.argv[1])
    started = start_engine(sys.argv[2], sys.argv[3], bundle, golden, batch_size=int(sys.argv[4]))
except FundusError as error:
    print(json.dumps({"error": error.detail}))
else:
    found = started.engine.description
    tested = "not self-tested" if golden is None else "self-test passed"
    words = f"{found.engine}, {found.precision}, {found.device}; {tested}"
    print(json.dumps({"name": bundle.name, "model_id": bundle.model_id, "engine": words}))
"""


def check_model(settings: Settings) -> list[Check]:
    """Load the bundle of FUNDUS_MODEL and answer its golden inputs on the device."""
    if not has_worker_packages():
        return [Check("model", CheckStatus.ABSENT, "not installed; a producer does not need it")]
    try:
        probe = subprocess.run(  # noqa: S603 - this interpreter, and a name as an argument
            [sys.executable, "-c", _PROBE, settings.model, settings.engine, settings.precision, "4"],
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=True,
        )
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        stderr = error.stderr or ""
        lines = (stderr if isinstance(stderr, str) else stderr.decode(errors="replace")).strip().splitlines()
        detail = lines[-1] if lines else str(error)
        return [Check("model", CheckStatus.FAILED, detail, "reinstall the extra `worker`; on a GPU, check its driver")]
    found = json.loads(probe.stdout.splitlines()[-1])
    if "error" in found:
        return [
            Check("model", CheckStatus.FAILED, found["error"], "set FUNDUS_MODEL to a bundle of `fundus model list`")
        ]
    return [Check("model", CheckStatus.OK, f"{found['name']} {found['model_id']} with {found['engine']}")]
