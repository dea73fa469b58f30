"""Give every target many hostile inputs and print what came of them: `make fuzz`."""

import argparse
import sys

from tests.fuzz.decoding import fuzz_decoders, fuzz_header
from tests.fuzz.documents import fuzz_document, make_targets
from tests.fuzz.pictures import make_seeds
from tests.fuzz.tally import Tally, draw_table


def main() -> int:
    """Exit 1 unless every target is sound."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=20_000, help="damaged pictures of each format")
    parser.add_argument("--headers", type=int, default=100_000)
    parser.add_argument("--documents", type=int, default=5_000, help="examples of each kind")
    parser.add_argument("--seed", type=int, default=0)
    wanted = parser.parse_args()
    tallies: list[Tally] = [fuzz_header(wanted.headers, wanted.seed)]
    tallies += [fuzz_document(name, wanted.documents, wanted.seed) for name in make_targets()]
    tallies += [fuzz_decoders(fmt, wanted.images, wanted.seed) for fmt in make_seeds()]
    sys.stdout.write(draw_table(tallies))
    return 0 if all(tally.sound for tally in tallies) else 1


if __name__ == "__main__":
    sys.exit(main())
