"""Check the workers of this machine by their heartbeats. Fast enough for a liveness probe."""

from producer.doctor.check import Check, CheckStatus
from worker.core.telemetry.heartbeat import STALE_AFTER_S, read_heartbeats


def check_workers() -> list[Check]:
    """Return one result per worker of this user, or one failure if there is no worker."""
    heartbeats = read_heartbeats()
    if not heartbeats:
        return [
            Check("worker", CheckStatus.FAILED, "no worker of this user is running on this machine", "start a worker")
        ]
    return [
        Check(
            "worker",
            CheckStatus.FAILED if heartbeat.is_stale else CheckStatus.OK,
            f"last heartbeat of process {heartbeat.pid} {heartbeat.age_s:.0f} s ago",
            f"restart it: without a heartbeat for {STALE_AFTER_S:.0f} s it is stuck" if heartbeat.is_stale else None,
        )
        for heartbeat in heartbeats
    ]
