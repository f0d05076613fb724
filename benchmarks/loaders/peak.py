"""What one load adds to a process that has loaded before: ``python -m benchmarks.loaders.peak URL FEW MANY ROWS``.

``FEW`` and ``MANY`` are folders of parts, as :mod:`benchmarks.loaders.customers` makes them; ``FEW`` has a thousand
rows and is loaded first, so that libraries, connections and pools are there. Prints bytes as JSON.
"""

import json
import sys
from dataclasses import replace
from pathlib import Path

from benchmarks.loaders.methods import Task
from benchmarks.loaders.ours import load_of
from daskae.allocators import release_memory
from daskae.load.targets import open_sink
from daskae.monitor.memory import PeakMeter, current_rss

FEW_ROWS = 1000


def peak_of_load(url: str, few: Path, many: Path, rows: int) -> int:
    """Return the peak above idle of a load that takes the place of a small one."""
    small, large = (load_of(Task(url, folder, count), "replace") for folder, count in ((few, FEW_ROWS), (many, rows)))
    open_sink(url).publish(replace(small, load_id="f" * 32))
    release_memory()
    idle = current_rss()
    with PeakMeter() as meter:
        open_sink(url).publish(large)
    return meter.peak - idle


if __name__ == "__main__":
    url, few, many, rows = sys.argv[1:]
    print(json.dumps({"above_idle": peak_of_load(url, Path(few), Path(many), int(rows))}))
