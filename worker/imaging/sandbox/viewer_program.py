"""The program of a decoding process that draws photographs for people."""

import sys
from functools import partial

from worker.imaging.headers.header import Limits
from worker.imaging.sandbox.decoder_program import Job, serve
from worker.imaging.steps.prepare import prepare_view


def main() -> None:
    """Serve the job of the first argument."""
    job = Job.model_validate_json(sys.argv[1])
    limits = Limits(job.max_image_bytes, job.max_image_pixels)
    serve(job, partial(prepare_view, recipe=job.recipe, overlay_size_px=job.overlay_size_px, limits=limits))


if __name__ == "__main__":
    main()
