"""No job at all: the bare parse of the same bytes into text columns with pyarrow, the least that any must do."""

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import csv

from benchmarks.peers.interface import COLUMNS, Result, Task, main

NOTES = ("no job: parses the bytes into text columns, counts the rows and forgets them",)


def read_csv(path: str) -> pa.Table:
    """Parse one file; rows with a wrong number of fields are skipped."""
    return csv.read_csv(
        path,
        parse_options=csv.ParseOptions(newlines_in_values=True, invalid_row_handler=lambda row: "skip"),
        convert_options=csv.ConvertOptions(check_utf8=False, column_types=dict.fromkeys(COLUMNS, pa.string())),
    )


def run(task: Task) -> Result:
    """Parse all files."""
    pa.set_cpu_count(task.cpus)
    read = read_csv if task.is_csv else pq.read_table
    return Result(f"pyarrow {pa.__version__}", sum(read(path).num_rows for path in task.paths), {}, NOTES)


if __name__ == "__main__":
    main(run)
