"""Check that the kernel can isolate decoding processes."""

from importlib.util import find_spec

from producer.doctor.check import Check, CheckStatus
from worker.core.process_hardening import find_missing_protections
from worker.core.settings import Settings

NAME = "decoders"


def check_isolation(_settings: Settings) -> list[Check]:
    """Return one warning for each protection that this kernel or container lacks."""
    if find_spec("cv2") is None:
        return [Check(NAME, CheckStatus.ABSENT, "not installed; a producer does not need them")]
    missing = find_missing_protections()
    remedy = "use Linux 5.13 or later with Landlock and seccomp, and a container profile that allows them"
    return [Check(NAME, CheckStatus.WARNING, sentence, remedy) for sentence in missing] or [
        Check(NAME, CheckStatus.OK, "isolated by Landlock and seccomp")
    ]
