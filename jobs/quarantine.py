"""Rejected rows: which there are, where they came from, and how corrected ones come back.

- python -m jobs.quarantine list
- python -m jobs.quarantine show --out rejects.csv
- python -m jobs.quarantine replay rejects.csv

Correct ``_raw`` in the file and replay it: the job runs once more and ends in the tables that it would have made had
the rows been right the first time. Corrections are kept in the work directory, and every later run over the same files
takes them.
"""

import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import App, Parameter

from daskae import __version__
from daskae.allocators import tune_allocators
from daskae.errors import SettingsError
from jobs.command import GO_ON, call, ended, style

if TYPE_CHECKING:
    from daskae.config import Settings
    from daskae.run.rejects import Reject

_LATEST = "latest"
_Switch = Parameter(negative=(), show_default=False)


def main(argv: Sequence[str] | None = None, **own_code: Any) -> int:
    """Run the command.

    Parameters
    ----------
    argv : sequence of str, optional
        Arguments without the program's name; ``sys.argv`` unless given.
    own_code : sequences of Metric, of rules, of Step and of LoadCheck
        ``metrics``, ``rules``, ``steps`` and ``checks`` of your own that the job was run with.

    Returns
    -------
    int
        The exit code.
    """
    app = App(
        name="quarantine", help=__doc__, help_format="markdown", version=__version__,
        usage="Usage: python -m jobs.quarantine COMMAND [OPTIONS]",
    )  # fmt: skip
    app.command(_list, name="list")
    app.command(_show, name="show")
    app.command(_forget, name="forget")
    app.command(_replay_command(own_code), name="replay")
    return call(app, argv)


def _list(*, work_dir: Path | None = None, json: Annotated[bool, _Switch] = False) -> int:
    """List the runs that have rejected rows, oldest first, and the corrections that are kept.

    Parameters
    ----------
    work_dir
        Work directory of the job. [default: .daskae]
    json
        Print one JSON document.
    """
    return ended(lambda: _print_runs(_work(work_dir), json))


def _show(
    run: str = _LATEST,
    *,
    reason: str | None = None,
    file: str | None = None,
    limit: int | None = None,
    json: Annotated[bool, _Switch] = False,
    out: Path | None = None,
    columns: Annotated[bool, _Switch] = False,
    for_spreadsheet: Annotated[bool, _Switch] = False,
    work_dir: Path | None = None,
) -> int:
    """Show the rejected rows of a run, or write them to a file for correction.

    Parameters
    ----------
    run
        Id of the run, or the beginning of it.
    reason
        Only rows that were rejected for this, among other reasons or alone.
    file
        Only rows of this file, named as the rows name it.
    limit
        At most so many rows. [default: 20 on the terminal, all with --out]
    json
        Print one JSON object a line.
    out
        Write them to this file, .csv, .jsonl or .parquet, to be corrected and replayed.
    columns
        In the file, split each record into the columns of its source where it can be split.
    for_spreadsheet
        In the file, put an apostrophe before what a spreadsheet would run as a formula; it is for looking at only.
    work_dir
        Work directory of the job. [default: .daskae]
    """
    only, how = (reason, file), (columns, for_spreadsheet)
    return ended(lambda: _show_rows(_work(work_dir), run, only, limit, json, out, how))


def _forget(*files: str, all: Annotated[bool, _Switch] = False, work_dir: Path | None = None) -> int:
    """Forget corrections, so that the next run takes the rows as they are in the files.

    Parameters
    ----------
    files
        Files whose corrections go, named as ``list`` names them.
    all
        All corrections go.
    work_dir
        Work directory of the job. [default: .daskae]
    """
    return ended(lambda: _forget_files(_work(work_dir), files, all))


def _replay_command(own_code: dict[str, Any]) -> Callable[..., int]:
    def replay(
        file: Path,
        *,
        run: str | None = None,
        no_run: Annotated[bool, _Switch] = False,
        to: str | None = None,
        strategy: Literal["replace", "append", "upsert", "merge"] | None = None,
        cluster: str | None = None,
        workers: int | None = None,
        memory_limit: str | None = None,
        work_dir: Path | None = None,
        json: Annotated[bool, _Switch] = False,
        quiet: Annotated[bool, _Switch] = False,
        verbose: Annotated[int, Parameter(alias=["-v"], count=True, negative=(), show_default=False)] = 0,
    ) -> int:
        """Take corrected rows from a file, keep them, and run the job once more with the settings it had.

        Rows that are as they were stay rejected. Doing it twice changes nothing.

        Parameters
        ----------
        file
            What ``show --out`` wrote, corrected; lines may be left out.
        run
            Id of the run that rejected the rows. [default: the one that the file names]
        no_run
            Keep the corrections and do not run; every later run of the job takes them.
        to
            Target, if not the one of that run.
        strategy
            What happens to earlier loads, if not as in that run.
        cluster
            Where to run, if not as in that run.
        workers
            Worker processes or threads, if not as in that run.
        memory_limit
            Bytes a worker may use, if not as in that run.
        work_dir
            Work directory of the job. [default: .daskae]
        json
            Print one JSON document to stdout instead of the summary.
        quiet
            No progress on stderr.
        verbose
            Say more; twice shows tracebacks.
        """
        given = {"to": to, "strategy": strategy, "cluster_name": cluster, "workers": workers}
        given["memory_limit"] = memory_limit
        flags = {name: value for name, value in given.items() if value is not None}
        wanted = _Wanted(_work(work_dir), run, no_run, json, quiet, own_code)
        return ended(lambda: _replay(file, flags, wanted), verbose, json, GO_ON)

    return replay


def _work(given: Path | None) -> Path:
    """Return the work directory, as the job itself finds it."""
    return given or Path(os.environ.get("DASKAE_WORK_DIR") or ".daskae")


class _Wanted:
    """How a replay is to be done."""

    def __init__(
        self,
        work_dir: Path,
        run: str | None,
        no_run: bool,
        as_json: bool,
        quiet: bool,
        own_code: dict[str, Any],
    ) -> None:
        self.work_dir, self.run, self.no_run = work_dir, run, no_run
        self.as_json, self.quiet, self.own_code = as_json, quiet, own_code


def _print_runs(work: Path, as_json: bool) -> int:
    from daskae.run.corrections import count_corrections
    from daskae.run.rejects import list_runs

    runs, corrections = list_runs(work), count_corrections(work)
    if as_json:
        listed = [
            {"run_id": run.run_id, "started": run.started, "status": run.status, "rejected": run.rejected,
             "by_reason": run.by_reason} for run in runs
        ]  # fmt: skip
        print(json.dumps({"schema_version": 1, "runs": listed, "corrections": corrections}, indent=2))
        return 0
    for run in runs:
        print(f"{run.run_id}  {run.started[:19]}Z  {run.rejected:,} rejected  ({run.status})")
        for reason, count in run.by_reason.items():
            print(f"  {count:>12,}  {reason}")
    if not runs:
        print(f"no run in {work} has rejected rows", file=sys.stderr)
    for label, count in corrections.items():
        print(f"corrections kept: {count:,} rows of {label}")
    return 0


def _show_rows(
    work: Path,
    name: str,
    only: tuple[str | None, str | None],
    limit: int | None,
    as_json: bool,
    out: Path | None,
    how: tuple[bool, bool],
) -> int:
    from itertools import islice

    from daskae.run.rejects import pick_run, read_rejects

    if limit is not None and limit < 0:
        raise SettingsError("the number of rows is negative", "--limit", str(limit))
    columns, for_spreadsheet = how
    if for_spreadsheet and (out is None or out.suffix.lower() != ".csv"):
        what = "only a CSV file is opened by a spreadsheet"
        raise SettingsError(what, "--for-spreadsheet", str(out), "--out NAME.csv")
    if columns and out is None:
        raise SettingsError("columns are for files", "--columns", "without --out", hint="give --out rejects.csv too")
    run = pick_run(work, name)
    rows = read_rejects(run, reason=only[0], file=only[1])
    if out is not None:
        from daskae.run.correction_file import write_rejects
        from daskae.run.inputs import dialect_of
        from daskae.run.rejects import source_columns

        names = source_columns(run) if columns else []
        dialect = dialect_of(_settings_of(run.folder, work, {}))
        count = write_rejects(out, islice(rows, limit), names, dialect, for_spreadsheet=for_spreadsheet)
        print(f"{count:,} rows of run {run.run_id} are in {out}", file=sys.stderr)
        return 0
    for reject in islice(rows, 20 if limit is None and not as_json else limit):
        print(_as_line(reject) if as_json else _as_text(reject))
    return 0


def _as_line(reject: "Reject") -> str:
    from dataclasses import asdict

    return json.dumps({name: value for name, value in asdict(reject).items() if name != "piece"}, ensure_ascii=False)


def _as_text(reject: "Reject") -> str:
    from daskae.report.words import visible

    place = f"{reject.file}, row {reject.row_number}"
    place += "" if reject.byte_offset is None else f", byte {reject.byte_offset}"
    cell = f" ({reject.column}: {reject.value!r})" if reject.column else f" ({reject.value})" if reject.value else ""
    text = f"{place}: {', '.join(reject.reasons)}{cell}"
    return f"{visible(text)}\n    {visible(reject.raw)}"


def _forget_files(work: Path, files: Sequence[str], everything: bool) -> int:
    from daskae.run.corrections import count_corrections, forget_corrections

    if bool(files) == everything:
        raise SettingsError("name the files, or all", "forget", " ".join(files) or "nothing", "FILE... or --all")
    known = count_corrections(work)
    unknown = [name for name in files if name not in known]
    if unknown:
        shown = ", ".join(known) or "none are kept"
        raise SettingsError("a file has no corrections", str(work), unknown[0], shown)
    count = forget_corrections(work, None if everything else files)
    print(f"{count:,} corrections are forgotten; run the job again", file=sys.stderr)
    return 0


def _settings_of(folder: Path, work: Path, flags: dict[str, Any]) -> "Settings":
    from daskae.config import load_settings
    from daskae.run.record import load_record

    return load_settings({**load_record(folder).settings, **flags, "work_dir": work}, None)


def _replay(file: Path, flags: dict[str, Any], wanted: _Wanted) -> int:
    settings = _keep_corrections(file, flags, wanted)
    return 0 if wanted.no_run else _run(settings, wanted)


def _keep_corrections(file: Path, flags: dict[str, Any], wanted: _Wanted) -> "Settings":
    """Check the file and keep its corrections; returns the settings to run with."""
    from daskae.run.correction_file import read_edited
    from daskae.run.corrections import store_corrections
    from daskae.run.record import load_record
    from daskae.run.rejects import pick_run
    from daskae.run.replay import named_run, prepare, require_repeatable

    edited = read_edited(file)
    run = pick_run(wanted.work_dir, named_run(edited, wanted.run, _LATEST))
    if not wanted.no_run:
        own = {kind: [item.name for item in items] for kind, items in wanted.own_code.items()}
        require_repeatable(load_record(run.folder), flags, own)
    settings = _settings_of(run.folder, wanted.work_dir, flags)
    replay = prepare(edited, run, settings)
    new = store_corrections(wanted.work_dir, replay.corrections)
    told = f"{len(replay.corrections):,} corrected rows, of which {new:,} are new"
    print(f"{told}; {replay.unchanged:,} rows of the file are as they were", file=sys.stderr)
    return settings


def _run(settings: "Settings", wanted: _Wanted) -> int:
    from daskae.monitor.progress import TerminalProgress
    from daskae.run.job import run_job
    from daskae.run.signals import terminate_like_interrupt

    with terminate_like_interrupt():
        if wanted.quiet:
            summary = run_job(settings, **wanted.own_code).summary
        else:
            with TerminalProgress(sys.stderr) as progress:
                summary = run_job(settings, listeners=[progress], **wanted.own_code).summary
    if wanted.as_json:
        print(json.dumps(summary.to_json(), indent=2, default=str))
    else:
        from daskae.report.summary_text import render_summary

        print(render_summary(summary, **style()))
    return 3 if summary.status == "done_with_rejects" else 0


if __name__ == "__main__":
    tune_allocators()
    raise SystemExit(main())
