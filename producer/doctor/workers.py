"""Check the workers of this machine by their heartbeats; quick enough for a liveness probe."""

from producer.doctor.check import Check, Verdict
from worker.core.telemetry.heartbeat import STALE_AFTER_S, read_heartbeats


def check_workers() -> list[Check]:
    """One check for each worker that runs as this user, failed if there is none."""
    heartbeats = read_heartbeats()
    if not heartbeats:
        return [Check("worker", Verdict.FAILED, "no worker of this user is ready on this machine", "start one")]
    return [
        Check(
            "worker",
            Verdict.FAILED if heartbeat.is_stale else Verdict.OK,
            f"process {heartbeat.pid} gave a sign of life {heartbeat.age_s:.0f} s ago",
            f"end it: more than {STALE_AFTER_S:.0f} s mean that it hangs" if heartbeat.is_stale else None,
        )
        for heartbeat in heartbeats
    ]
