"""The program of a decoding process that draws photographs for people."""

import sys
from functools import partial

from worker.imaging.headers.header import ImageLimits
from worker.imaging.sandbox.decoder_program import DecoderConfig, serve
from worker.imaging.steps.prepare import prepare_for_display


def main() -> None:
    """Serve the job of the first argument."""
    job = DecoderConfig.model_validate_json(sys.argv[1])
    limits = ImageLimits(job.max_image_bytes, job.max_image_pixels)
    serve(job, partial(prepare_for_display, recipe=job.recipe, overlay_size_px=job.overlay_size_px, limits=limits))


if __name__ == "__main__":
    main()
