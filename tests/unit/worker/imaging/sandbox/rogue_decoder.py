"""A decoder program that misbehaves on command; other images are prepared normally."""

import ctypes
import os
import signal
import sys
import time

import numpy as np

from worker.core.errors import ImageDecodeError
from worker.imaging.headers.header import ImageLimits
from worker.imaging.photograph import PreparedImage
from worker.imaging.sandbox.decoder_program import DecoderConfig, serve
from worker.imaging.steps.prepare import prepare_image

RESUMED: list[int] = []
"""Filled by SIGUSR1, which may arrive before the image."""
signal.signal(signal.SIGUSR1, lambda number, _: RESUMED.append(number))
CONFIG = DecoderConfig.model_validate_json(sys.argv[1])


def prepare(data: bytes) -> PreparedImage:
    match data:
        case b"segfault":
            ctypes.string_at(0)
        case b"hang":
            time.sleep(3600)
        case b"kill":
            signal.raise_signal(signal.SIGKILL)
        case b"pause":
            while not RESUMED:
                time.sleep(0.01)
            raise ImageDecodeError(f"resumed {os.getpid()}")
        case b"exit":
            sys.exit(3)
        case b"hog":
            np.ones(2 * CONFIG.memory_mb * 2**20, np.uint8)
        case b"print":
            os.write(1, b"output of a library")
            raise ImageDecodeError("printed")
        case b"imports":
            heavy = sorted({"tensorflow", "keras", "celery", "boto3", "sqlalchemy"} & set(sys.modules))
            raise ImageDecodeError(",".join(heavy) or "light")
        case b"environment":
            raise ImageDecodeError(",".join(sorted(os.environ)))
    return prepare_image(data, recipe=CONFIG.recipe, overlay_size_px=CONFIG.overlay_size_px, limits=ImageLimits())


serve(CONFIG, prepare)
