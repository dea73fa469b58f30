"""Check the model bundle and the device, where the worker's part is installed."""

import json
import subprocess
import sys
from importlib.util import find_spec

from producer.doctor.check import Check, Verdict
from worker.core.settings import Settings

TIMEOUT_S = 180

# In a process of its own: a broken driver may end it, and this one stays free of TensorFlow.
_PROBE = """
import json, sys
from worker.core.errors import FundusError
from worker.model.bundle.ensemble import load_model
try:
    bundle = load_model(sys.argv[1])
    from worker.model.engines.factory import make_engine
    engine = make_engine(sys.argv[2], bundle)
    engine.warm_up(1)
except FundusError as error:
    print(json.dumps({"error": error.detail}))
else:
    print(json.dumps({"name": bundle.name, "model_id": bundle.model_id, "device": engine.device}))
"""


def check_model(settings: Settings) -> list[Check]:
    """Load the bundle of FUNDUS_MODEL and grade one blank image."""
    if find_spec("tensorflow") is None:
        return [Check("model", Verdict.ABSENT, "not installed here; a producer does not need it")]
    try:
        probe = subprocess.run(  # noqa: S603 - this interpreter, and a name as an argument
            [sys.executable, "-c", _PROBE, settings.model, settings.engine],
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=True,
        )
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        stderr = error.stderr or ""
        words = (stderr if isinstance(stderr, str) else stderr.decode(errors="replace")).strip().splitlines()
        detail = words[-1] if words else str(error)
        return [Check("model", Verdict.FAILED, detail, "install the extra `worker` again; on a GPU, see to its driver")]
    found = json.loads(probe.stdout.splitlines()[-1])
    if "error" in found:
        return [Check("model", Verdict.FAILED, found["error"], "name a bundle of `fundus model list` in FUNDUS_MODEL")]
    return [Check("model", Verdict.OK, f"{found['name']} {found['model_id']} on {found['device']}")]
