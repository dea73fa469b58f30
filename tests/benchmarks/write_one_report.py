"""Write one report of `report_sizes` in a separate process, to measure its peak memory."""

import json
import sys
from pathlib import Path

from tests.benchmarks.report_sizes import write_one

if __name__ == "__main__":
    print(json.dumps(write_one(int(sys.argv[1]), Path(sys.argv[2]))))
