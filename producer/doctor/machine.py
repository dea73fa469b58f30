"""Check that the decoding processes fit the memory limit where the extra `worker` is installed."""

from producer.doctor.check import Check, CheckStatus
from worker.core.machine import DECODER_REMEDY, find_memory_excess, has_worker_packages, usable_cores
from worker.core.settings import Settings


def check_machine(settings: Settings) -> list[Check]:
    """Return the usable cores, with a warning if the decoding processes may exceed the memory limit of the cgroup."""
    if not has_worker_packages():
        return []
    cores, decoders = usable_cores(), settings.decode_processes
    excess = find_memory_excess(decoders, settings.decode_memory_mb)
    if excess is not None:
        return [Check("machine", CheckStatus.WARNING, excess, DECODER_REMEDY)]
    return [Check("machine", CheckStatus.OK, f"{cores} usable cores, {decoders} decoding processes")]
