"""Run one contender: ``python -m benchmarks.loaders NAME URL PARTS ROWS``; prints what it took as JSON."""

import json
import sys
import warnings
from pathlib import Path

from benchmarks.loaders import methods, ours
from benchmarks.loaders.methods import Task, timed

if __name__ == "__main__":
    name, url, parts, rows = sys.argv[1:]
    warnings.simplefilter("ignore")
    module = ours if name.startswith("daskae") else methods
    print(json.dumps(timed(vars(module)[name](Task(url, Path(parts), int(rows))))))
