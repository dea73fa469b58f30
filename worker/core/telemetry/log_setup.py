"""Logging of the project and its libraries, as readable lines or as JSON."""

import logging
import os
import sys
from typing import Literal

import structlog
from structlog.typing import Processor


def configure_logs(fmt: Literal["human", "json"], level: str) -> None:
    """Write records of structlog and of `logging` to stderr in one format. Call it once, at start."""
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    renderers: list[Processor]
    if fmt == "json":
        renderers = [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    else:
        # The default formatter of rich prints local variables, among them URLs with passwords.
        plain = structlog.dev.plain_traceback
        # https://no-color.org: set and not empty.
        colours = sys.stderr.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
        renderers = [structlog.dev.ConsoleRenderer(colors=colours, exception_formatter=plain)]
    structlog.configure(
        processors=[structlog.stdlib.filter_by_level, *shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler()
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *renderers],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level.upper())
    # Below a warning they log too much, and botocore's debug lines contain signed headers.
    for name in ("boto3", "botocore", "urllib3", "s3transfer", "tensorflow", "h5py", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)
    if level != "debug":
        # A line when a task is taken and one when it is done: the worker has one line for each chunk.
        for name in ("celery.worker.strategy", "celery.app.trace"):
            logging.getLogger(name).setLevel(logging.WARNING)
