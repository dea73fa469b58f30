"""Run every fuzz target and print its outcomes: `make fuzz`, or with `--format DICOM` the decoders of one format."""

import argparse
import sys

from tests.fuzz.damaged_images import make_seed_images
from tests.fuzz.document_targets import fuzz_document, make_targets
from tests.fuzz.fuzz_result import FuzzResult, format_table
from tests.fuzz.image_targets import SETTINGS, fuzz_decoders, fuzz_headers


def main() -> int:
    """Run all targets. Exit status 1 if one has a crash, a hang or a traceback."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=20_000, help="damaged images of each format")
    parser.add_argument("--headers", type=int, default=100_000, help="damaged images for the header check")
    parser.add_argument("--documents", type=int, default=5_000, help="examples of each document target")
    parser.add_argument("--format", choices=make_seed_images(), help="only the decoders of this format")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    results: list[FuzzResult] = []
    if options.format is None:
        results.append(fuzz_headers(options.headers, options.seed))
        results += [fuzz_document(name, options.documents, options.seed) for name in make_targets()]
    formats = make_seed_images() if options.format is None else [options.format]
    results += [fuzz_decoders(fmt, options.images, options.seed) for fmt in formats]
    sys.stdout.write(format_table(results))
    sys.stdout.write(
        f"limits of a decoding process: {SETTINGS['decode_memory_mb']} MiB beyond the idle program, "
        f"{SETTINGS['decode_timeout_s']} s an image; a process decodes all images of its format\n"
    )
    return 0 if all(result.passed for result in results) else 1


if __name__ == "__main__":
    sys.exit(main())
