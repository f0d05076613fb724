"""Generate order files of any size, with planted defects and the exact truth about them.

::

    python -m jobs.generate_orders --rows 10_000_000 --out orders/

The folder then holds the data files, ``_generated.json`` (what was planted, and the result that a correct reader must
come to) and ``_settings.toml`` (the settings under which it must). Readers pass over names with an underscore.
What the data looks like is the subject of :mod:`daskae.synthetic`.
"""

from __future__ import annotations

import math
import os
import signal
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import BrokenExecutor, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict
from datetime import timedelta
from functools import reduce
from itertools import starmap
from json import dumps, loads
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import App, CycloptsError, Parameter
from cyclopts.validators import Number

from daskae.errors import DaskaeError, SettingsError
from daskae.units import format_bytes, format_count, format_seconds, units_to_decimal

if TYPE_CHECKING:
    from daskae.synthetic import Block, Spec, Truth

GENERATOR = "jobs.generate_orders"
FORMAT_VERSION = 1
SIDECAR, SETTINGS, MARKER = "_generated.json", "_settings.toml", "_generating.json"
ROWS_PER_FILE = 1_000_000
POLICY = """\
# The settings under which the data beside this file gives the result in _generated.json.
[columns]
order_id = "order_id"
customer_id = "customer_id"
order_date = "order_date"
amount = "amount"
quantity = "quantity"
channel = { column = "channel", dtype = "text" }

[[rules]]
name = "non_positive_quantity"
rule = "range"
column = "quantity"
min = 1

[[rules]]
name = "exact_duplicate"
rule = "unique"
columns = "*"
"""
ORDER_ID_RULE = """
[[rules]]
name = "duplicate_order_id"
rule = "unique"
columns = ["order_id"]
"""

app = App(name="generate_orders", version_flags=[], help_format="plaintext", suppress_keyboard_interrupt=False)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a name to write under; the file appears under ``path`` when it is whole, or not at all."""
    partial = path.with_name(partial_name(path.name))
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def partial_name(name: str) -> str:
    """Name of a file while it is written; the underscore hides it from readers."""
    return f"_{name}.partial"


def data_name(index: int, format: str) -> str:
    """Name of a data file, such as ``orders-00000.csv``."""
    return f"orders-{index:05d}.{format}"


def oddities(spec: Spec) -> dict[str, int]:
    """Valid peculiarities of CSV files, and the file that has each; data without dirt has none."""
    names = ("blank_lines", "byte_order_mark", "crlf_line_ends", "no_final_newline")
    planted = spec.format == "csv" and spec.dirt > 0
    return {name: step % spec.files for step, name in enumerate(names)} if planted else {}


def write_part(spec: Spec, folder: Path, index: int) -> Truth:
    """Write one data file; any process can write any of them.

    Parameters
    ----------
    spec : Spec
        The whole data set.
    folder : Path
        Where the file goes.
    index : int
        Which of the ``spec.files`` files.
    """
    from daskae.synthetic import Truth, make_block

    donor, truth = None, Truth.nothing(spec)
    if index > 0:
        # One earlier block a file is enough to place copies across files, and costs little to make again.
        random = spec.random(2, index)
        bounds = spec.blocks(int(random.integers(index)))
        donor = make_block(spec, *bounds[random.integers(len(bounds))])

    def blocks() -> Iterator[Block]:
        for start, stop in spec.blocks(index):
            block = make_block(spec, start, stop, donor)
            truth.add(block)
            yield block

    path = folder / data_name(index, spec.format)
    with replacing(path) as partial:
        if spec.format == "csv":
            write_csv(blocks(), partial, {name for name, file in oddities(spec).items() if file == index})
        else:
            write_parquet(blocks(), partial)
    truth.bytes = path.stat().st_size
    return truth


def write_csv(blocks: Iterator[Block], path: Path, odd: set[str]) -> None:
    """Write blocks as one CSV file with the peculiarities named in ``odd``."""
    from daskae.synthetic import COLUMNS, csv_lines, encode

    end = "\r\n" if "crlf_line_ends" in odd else "\n"
    with path.open("wb") as file:
        file.write(encode(("\ufeff" if "byte_order_mark" in odd else "") + ",".join(COLUMNS)))
        for block in blocks:
            lines = csv_lines(block)
            if "blank_lines" in odd:
                places = sorted({len(lines) // 3, len(lines) // 2})
                lines = lines.scatter(places, [lines[place] + end * (1 + step) for step, place in enumerate(places)])
            file.write(encode(end + lines.str.join(end).item()))
        if "no_final_newline" not in odd:
            file.write(encode(end))


def write_parquet(blocks: Iterator[Block], path: Path) -> None:
    """Write blocks as the row groups of one Parquet file, all columns text."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from daskae.synthetic import COLUMNS, text_table

    schema = pa.schema([(column, pa.string()) for column in COLUMNS])
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for block in blocks:
            writer.write_table(text_table(block).to_arrow().cast(schema))


def generate(spec: Spec, folder: Path, workers: int = 1) -> dict[str, Any]:
    """Write the data set into a folder that is new, empty or an earlier one of ours.

    Parameters
    ----------
    spec : Spec
        What to generate.
    folder : Path
        Where to; the folder is made if needed.
    workers : int
        Processes to share the files among. The bytes do not depend on it.

    Returns
    -------
    dict
        The document that is also written to ``_generated.json``.

    Raises
    ------
    SettingsError
        If the folder holds anything that this generator did not write.
    """
    claim(folder, spec)
    work = [(spec, folder, index) for index in range(spec.files)]
    if workers > 1:
        # Spawned, since a fork of a process that has used polars can hang on the locks of its threads.
        with ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_start_worker) as pool:
            document = describe(spec, pool.map(write_part, *zip(*work, strict=True)))
    else:
        document = describe(spec, starmap(write_part, work))
    with replacing(folder / SETTINGS) as partial:
        # Lines of one order share its id, so there it is no fault.
        partial.write_text(POLICY + (ORDER_ID_RULE if spec.lines_per_order == 1 else ""), encoding="utf-8")
    with replacing(folder / SIDECAR) as partial:
        partial.write_text(dumps(document, indent=2) + "\n", encoding="utf-8")
    (folder / MARKER).unlink()
    return document


def _start_worker() -> None:
    """Keep a worker process to one core, and leave an interrupt to the parent."""
    os.environ["POLARS_MAX_THREADS"] = "1"
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def claim(folder: Path, spec: Spec) -> None:
    """Make the folder ours: refuse foreign files, mark it, and remove the data set that it held."""
    if folder.exists() and not folder.is_dir():
        raise SettingsError("the output must be a folder", f"{folder}", "a file")
    folder.mkdir(parents=True, exist_ok=True)
    found, ours = {entry.name for entry in folder.iterdir()}, _written_by_us(folder)
    if foreign := sorted(found - ours - {partial_name(name) for name in (*ours, MARKER)}):
        raise SettingsError(
            "the output folder holds files that this generator did not write",
            f"{folder}",
            ", ".join(foreign[:5]) + (f" and {len(foreign) - 5} more" if len(foreign) > 5 else ""),
            "a new or empty folder, or one generated before",
            "give another --out, or move the files away",
        )
    # Until all is written the marker tells what may lie here, so that an interrupted run can be run again.
    names = sorted(ours | {data_name(index, spec.format) for index in range(spec.files)})
    with replacing(folder / MARKER) as partial:
        partial.write_text(dumps({"generator": GENERATOR, "names": names}), encoding="utf-8")
    # The sidecar goes first: it must never stand beside data that it does not describe.
    for name in sorted(found - {MARKER}, key=lambda name: name != SIDECAR):
        (folder / name).unlink(missing_ok=True)


def _written_by_us(folder: Path) -> set[str]:
    """Names that an earlier run in this folder wrote or was about to write; no name is ours by its look alone."""
    names: set[str] = set()
    for note in (SIDECAR, MARKER):
        try:
            document = loads((folder / note).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        if isinstance(document, dict) and document.get("generator") == GENERATOR:
            names |= {note, SETTINGS, *document.get("names", ())}
    return names


def describe(spec: Spec, truths: Iterable[Truth]) -> dict[str, Any]:
    """Give the sidecar document: what was asked for, what was written, and the result it must lead to."""
    from daskae.synthetic import FIRST_DAY, Truth

    # Merged as they come: a list of the sets of customers of all files could outgrow the memory.
    truth = reduce(Truth.merge, truths)
    rejected = {kind: truth.planted[kind] for kind in spec.kinds if truth.planted[kind]}

    def moment(second: int) -> str:
        return f"{FIRST_DAY + timedelta(seconds=second):%Y-%m-%d %H:%M:%S}"

    return {
        "generator": GENERATOR,
        "format_version": FORMAT_VERSION,
        "parameters": asdict(spec),
        "rows": truth.rows,
        "files": spec.files,
        "bytes": truth.bytes,
        "planted": rejected,
        "oddities": {name: data_name(file, spec.format) for name, file in oddities(spec).items()},
        "accepted": truth.accepted,
        "rejected_by_rule": rejected | ({"non_positive_quantity": truth.returned} if truth.returned else {}),
        "customers": truth.customer_count,
        "orders": truth.orders,
        "revenue": f"{units_to_decimal(truth.cents, 2):f}",
        "first_order": moment(truth.first),
        "last_order": moment(truth.last),
        "names": [data_name(index, spec.format) for index in range(spec.files)],
    }


def summary(document: dict[str, Any], folder: Path, seconds: float) -> str:
    """Tell people what was written."""
    size = f"{format_count(document['rows'])} rows in {document['files']} files, {format_bytes(document['bytes'])}"
    pace = f"{format_seconds(seconds)}, {format_count(round(document['rows'] / seconds))} rows/s"
    planted = [f"  {kind:<22}{format_count(count):>12}" for kind, count in document["planted"].items()]
    return "\n".join([f"{size}, in {pace}", "planted:" if planted else "nothing planted", *planted, f"in {folder}"])


@app.default
def command(
    *,
    out: Path,
    rows: int = 1_000_000,
    format: Literal["csv", "parquet"] = "csv",
    seed: int = 1,
    dirt: float = 0.005,
    files: Annotated[int | None, Parameter(validator=Number(gte=1))] = None,
    workers: Annotated[int | None, Parameter(validator=Number(gte=1))] = None,
    lines_per_order: int = 1,
    json: Annotated[bool, Parameter(negative=())] = False,
    quiet: Annotated[bool, Parameter(negative=())] = False,
) -> int:
    """Generate order files with planted defects, and the exact truth about them.

    Parameters
    ----------
    out : Path
        Folder to write to: new, empty, or generated before.
    rows : int
        Data rows over all files, defects included.
    format : str
        Kind of files.
    seed : int
        Another seed gives other data; the same arguments give the same bytes, whatever the workers.
    dirt : float
        Share of the rows that are planted defects, up to 0.5. With 0 the files are plain and clean.
    files : int, optional
        Number of files; about a million rows each, but at least four, unless given.
    workers : int, optional
        Processes; one a core unless given.
    lines_per_order : int
        Most rows that may share an order id.
    json : bool
        Print the content of _generated.json.
    quiet : bool
        Print no summary.
    """
    began = time.perf_counter()
    from daskae.synthetic import Spec

    if files is None:
        files = min(max(4, round(rows / ROWS_PER_FILE)), max(1, rows // 2))
    spec = Spec(rows, files, format, seed, dirt, lines_per_order)
    # A process takes a second to start, in which one writes half a million rows.
    document = generate(spec, out, workers or min(_cores(), spec.files, math.ceil(rows / 250_000)))
    if json:
        print(dumps(document))
    if not quiet:
        print(summary(document, out, time.perf_counter() - began), file=sys.stderr)
    return 0


def _cores() -> int:
    """Cores this process may use, which in a container or under Slurm are fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    argv : sequence of str, optional
        Arguments; those of the process unless given.

    Returns
    -------
    int
        0 done, 1 failed, 2 wrong usage or a folder that is not ours, 130 interrupted.
    """
    try:
        return int(app(argv, result_action="return_value", exit_on_error=False) or 0)
    except CycloptsError:
        return 2  # already told by cyclopts
    except DaskaeError as error:
        print(f"generate_orders: {error}", file=sys.stderr)
        return error.exit_code
    except (OSError, BrokenExecutor) as error:
        print(f"generate_orders: cannot write the data: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    raise SystemExit(main())
