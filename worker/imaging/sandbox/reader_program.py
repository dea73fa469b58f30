"""The program of a decoding process that prepares photographs for people."""

import sys
from functools import partial

from worker.imaging.sandbox.decoder_program import DecoderConfig, serve
from worker.imaging.steps.prepare import prepare_for_reading


def main() -> None:
    """Prepare images as configured by the first argument."""
    config = DecoderConfig.model_validate_json(sys.argv[1])
    serve(
        config,
        partial(
            prepare_for_reading,
            recipe=config.recipe,
            largest_side_px=config.overlay_size_px,
            limits=config.limits,
            admitted=config.dicom_admissions,
        ),
    )


if __name__ == "__main__":
    main()
