"""Load customers into databases by daskae, by other tools, and by the least that any could do; compare rates.

::

    python -m benchmarks.load --rows 1_000_000

See ``benchmarks/README.md`` for what is compared and how to read the table.
"""

import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

from cyclopts import App, CycloptsError, Parameter

from benchmarks.loaders.databases import Kind, open_target
from benchmarks.loaders.report import render
from benchmarks.loaders.rounds import OURS, PEERS, Loaded, Rounds, line_up

app = App(name="load", help=__doc__, version_flags=[], help_format="plaintext")
Several = Parameter(consume_multiple=True, negative=())


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Options:
    """What to compare.

    Parameters
    ----------
    rows : tuple of int
        Sizes of the table.
    slow_rows : int
        Size for contenders that insert row by row; their rates are compared.
    databases : tuple of str
        Where to load.
    peers : tuple of str
        Who runs beside daskae and the floors.
    rounds : int
        How often each has its turn.
    url : str, optional
        A PostgreSQL database to use, whose schema public is dropped; a server of our own unless given.
    work : Path
        Folder for rows, SQLite files and logs.
    json : Path, optional
        File for all figures of all runs.
    timeout : float, optional
        Seconds after which a contender is killed.
    quiet : bool
        Tell no progress.
    """

    rows: Annotated[tuple[int, ...], Several] = (1_000_000,)
    slow_rows: int = 50_000
    databases: Annotated[tuple[Kind, ...], Several] = ("postgresql", "sqlite")
    peers: Annotated[tuple[str, ...], Several] = PEERS
    rounds: int = 3
    url: str | None = None
    work: Path = Path(tempfile.gettempdir()) / "daskae-benchmarks"
    json: Path | None = None
    timeout: float | None = None
    quiet: bool = False


@app.default
def command(options: Options = Options()) -> int:
    """Run all contenders on every size in every database."""
    runs: list[Loaded] = []
    for kind in options.databases:
        loaders = line_up(kind, options.peers)
        with open_target(kind, options.work / "target", options.url) as target:
            for rows in options.rows:
                few = min(rows, options.slow_rows)
                session = Rounds(target, options.work, rows, few, options.timeout, options.quiet)
                found = list(session.run(loaders, options.rounds))
                print(render(kind, found), flush=True)
                runs += found
            target.empty()
    if options.json:
        told = [asdict(run) for run in runs]
        options.json.write_text(json.dumps(told, indent=1, default=str) + "\n", encoding="utf-8")
    ours = [run for run in runs if run.loader.name.startswith(OURS)]
    return 1 if any(run.error or run.wrong for run in ours) else 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line: 0 done, 1 daskae failed or was wrong, 2 wrong usage, 130 interrupted."""
    try:
        return int(app(argv, result_action="return_value", exit_on_error=False) or 0)
    except CycloptsError:
        return 2
    except ValueError as error:
        print(f"load: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    raise SystemExit(main())
