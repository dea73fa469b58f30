"""A decoder program that has started another process; an image `pid` asks for its process id."""

import os
import signal
import sys

from worker.core.errors import ImageDecodeError
from worker.imaging.photograph import PreparedImage
from worker.imaging.sandbox.decoder_program import DecoderConfig, serve

STARTED = os.fork()
if STARTED == 0:
    while True:
        signal.pause()


def prepare(data: bytes) -> PreparedImage:
    raise ImageDecodeError(str(STARTED))


serve(DecoderConfig.model_validate_json(sys.argv[1]), prepare)
