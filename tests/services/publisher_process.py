"""A publisher in a process of its own, which a test kills."""

import multiprocessing
import os
from multiprocessing.context import ForkServerProcess

_CONTEXT = multiprocessing.get_context("forkserver")
# Imported once: each process is a copy of a server that has neither threads nor connections.
_CONTEXT.set_forkserver_preload(["worker.publishing.passes", "worker.publishing.dicom.publishers"])


def start_publisher(run: str, environment: dict[str, str]) -> ForkServerProcess:
    """Start a process that publishes a run with the settings of the environment; it ends with status 0 if it did."""
    process = _CONTEXT.Process(target=_publish, args=(run, environment))
    process.start()
    return process


def _publish(run: str, environment: dict[str, str]) -> None:
    os.environ.update(environment)
    from worker.core.settings import parse_settings
    from worker.publishing.passes import publish_run

    publish_run(parse_settings(), run)
