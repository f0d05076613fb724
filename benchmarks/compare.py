"""Do the same job in daskae and in its peers, on the same files in the same session, and compare cost and results.

::

    python -m benchmarks.compare --rows 1_000_000 --format csv parquet --modes cold rerun incremental

See ``benchmarks/README.md`` for what is compared and how to read the table.
"""

import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import App, CycloptsError, Parameter

from benchmarks.contenders import OURS, PEERS, line_up
from benchmarks.inputs import generate
from benchmarks.session import Mode, Run, Session, matches
from benchmarks.table import render

app = App(name="compare", help=__doc__, version_flags=[], help_format="plaintext")
Several = Parameter(consume_multiple=True, negative=())


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Options:
    """What to compare.

    Parameters
    ----------
    rows : tuple of int
        Sizes of the input.
    format : tuple of str
        Kinds of input files.
    peers : tuple of str
        Who runs beside daskae.
    modes : tuple of str
        cold: nothing is there; rerun: the same again; incremental: again with one percent more rows in a new file.
    repeat : int
        Turns; the fastest run of each contender is shown.
    cpus : int
        Threads or worker processes that each may use.
    memory : int
        MiB that each may take: daskae in one process then, of its peers those that keep to a limit; 0 for any.
    dirt : float
        Share of planted defects.
    python : tuple of str
        Interpreters of contenders that need their own, as NAME=PATH.
    work : Path
        Folder for input, output and logs; what an earlier run left in it is replaced.
    json : Path, optional
        File for all figures of all runs.
    timeout : float, optional
        Seconds after which a contender is killed.
    quiet : bool
        Tell no progress.
    """

    rows: Annotated[tuple[int, ...], Several] = (1_000_000,)
    format: Annotated[tuple[Literal["csv", "parquet"], ...], Several] = ("csv",)
    peers: Annotated[tuple[str, ...], Several] = tuple(PEERS)
    modes: Annotated[tuple[Mode, ...], Several] = ("cold",)
    repeat: int = 1
    cpus: int = 2
    memory: int = 0
    dirt: float = 0.005
    python: Annotated[tuple[str, ...], Several] = ()
    work: Path = Path(tempfile.gettempdir()) / "daskae-benchmarks"
    json: Path | None = None
    timeout: float | None = None
    quiet: bool = False


@app.default
def command(options: Options = Options()) -> int:
    """Run all contenders on every size and kind of input."""
    contenders = line_up(options.peers, options.python, options.memory)
    runs: list[Run] = []
    for rows, kind in product(options.rows, options.format):
        place = options.work.absolute() / f"{kind}-{rows}"
        dataset = generate(place / "input", rows, kind, dirt=options.dirt)
        session = Session(contenders, dataset, place, options.cpus, options.dirt, options.timeout, options.quiet)
        found = session.run(options.modes, options.repeat)
        print(render(dataset, found), flush=True)
        runs += found
        if options.json:
            write_json(options.json, runs)
    return 0 if ours_is_right(runs) else 1


def write_json(path: Path, runs: Sequence[Run]) -> None:
    """Write all runs so far."""
    path.write_text(json.dumps([run.as_json() for run in runs], indent=1, default=str) + "\n", encoding="utf-8")


def ours_is_right(runs: Sequence[Run]) -> bool:
    """Whether daskae ran, and came to the true totals each time; peers may fail."""
    ours = [run for run in runs if run.contender == OURS]
    return bool(ours) and all(run.totals and matches(run.totals, run.dataset.totals) for run in ours)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line: 0 done, 1 daskae failed or was wrong, 2 wrong usage, 130 interrupted."""
    try:
        return int(app(argv, result_action="return_value", exit_on_error=False) or 0)
    except CycloptsError:
        return 2
    except ValueError as error:
        print(f"compare: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    raise SystemExit(main())
