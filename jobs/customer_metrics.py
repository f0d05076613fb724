"""Customer, cohort and lifetime-value metrics from order files.

    python -m jobs.customer_metrics orders/ --to sqlite:///metrics.db

The command line reads the settings and prints the outcome; :mod:`daskae.pipeline` does the work. Your own metrics and
rules need no change here: call :func:`main` with them from a script of your own.
"""

import json
import logging
import os
import sys
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NoReturn

from cyclopts import Parameter

from daskae.allocators import keep_what_is_loaded, start_without_collections, tune_allocators
from jobs.command import GO_ON, call, ended, new_app, say, style

if TYPE_CHECKING:
    from daskae.aggregate.aggregation import Metric
    from daskae.config import Settings
    from daskae.load.audits import LoadCheck
    from daskae.summary import RunSummary
    from daskae.transform.steps import Step
    from daskae.validate.custom import CustomRule

_EPILOGUE = """Exit codes: 0 done; 1 failed; 2 usage or settings; 3 done, but more rows were rejected than
quality.max_rejected_share allows; 4 a rule refused the publish; 75 try again later; 130/143 interrupted."""


def main(
    argv: Sequence[str] | None = None,
    *,
    metrics: "Sequence[Metric]" = (),
    rules: "Sequence[CustomRule]" = (),
    steps: "Sequence[Step]" = (),
    checks: "Sequence[LoadCheck]" = (),
) -> int:
    """Run the command.

    Parameters
    ----------
    argv : sequence of str, optional
        Arguments without the program's name; ``sys.argv`` unless given.
    metrics : sequence of Metric
        Further columns for ``customer_metrics``.
    rules : sequence of RowRule or TableRule
        Further rules, beside those of the settings.
    steps : sequence of Step
        Further transformations, after those of the settings.
    checks : sequence of LoadCheck
        Further checks of what is about to be published, after those of the settings.

    Returns
    -------
    int
        The exit code.
    """
    app = new_app("customer_metrics", __doc__, "INPUT... [OPTIONS]", _EPILOGUE)

    @app.default
    def command(
        *inputs: str,
        config: Path | None = None,
        to: str | None = None,
        strategy: Literal["replace", "append", "upsert", "merge"] | None = None,
        cluster: str | None = None,
        workers: int | None = None,
        memory_limit: str | None = None,
        as_of: str | None = None,
        block_size: str | None = None,
        profile: Literal["fast", "thorough"] | None = None,
        work_dir: Path | None = None,
        fresh: Annotated[bool, Parameter(negative=(), show_default=False)] = False,
        dry_run: Annotated[bool, Parameter(negative=(), show_default=False)] = False,
        json: Annotated[bool, Parameter(negative=(), show_default=False)] = False,
        quiet: Annotated[bool, Parameter(negative=(), show_default=False)] = False,
        verbose: Annotated[int, Parameter(alias=["-v"], count=True, negative=(), show_default=False)] = 0,
    ) -> int:
        """Read order files, check every row, compute metrics and load them, all or nothing.

        Parameters
        ----------
        inputs
            Files, folders, patterns or fsspec URLs; CSV (plain, gzip, zstd, bz2, xz) or Parquet; or a database URL.
        config
            Settings in TOML: columns, rules, input dialect, metric definitions.
        to
            Target: a SQLAlchemy URL, or a folder for Parquet. [default: sqlite:///customer_metrics.db]
        strategy
            What happens to earlier loads. [default: replace]
        cluster
            auto, inline, processes, local, slurm, kubernetes, tcp://…, tls://… or a scheduler FILE.json.
            [default: auto]
        workers
            Worker processes or threads of this machine. [default: one a core]
        memory_limit
            Bytes a worker may use, such as 2GB. [default: its share of what is free]
        as_of
            Day on which recency and churn are judged. [default: the last order's]
        block_size
            Bytes of a large file that one task reads. [default: 64MiB]
        profile
            fast, or thorough: also profile every column and score columns and rows. [default: fast]
        work_dir
            Where intermediate results and reports are kept. [default: .daskae]
        fresh
            Use nothing of earlier runs.
        dry_run
            Print what would be done, and do nothing.
        json
            Print one JSON document to stdout instead of the summary.
        quiet
            No progress on stderr.
        verbose
            Show every event as a log line instead of the progress bar; twice shows tracebacks.
        """
        given = {
            "inputs": list(inputs) or None, "to": to, "strategy": strategy, "cluster_name": cluster, "workers": workers,
            "memory_limit": memory_limit, "as_of": as_of, "block_size": block_size, "work_dir": work_dir,
            "fresh": fresh or None, "validation": None if profile is None else {"profile": profile},
        }  # fmt: skip
        flags = {name: value for name, value in given.items() if value is not None}
        output, own = _Output(json, quiet, verbose, dry_run), _Own(metrics, rules, steps, checks)
        return ended(lambda: _start(flags, config, output, own), verbose, json, GO_ON)

    return call(app, argv)


class _Own:
    """What a script of a user's own adds."""

    def __init__(
        self,
        metrics: "Sequence[Metric]",
        rules: "Sequence[CustomRule]",
        steps: "Sequence[Step]",
        checks: "Sequence[LoadCheck]",
    ) -> None:
        self.metrics, self.rules, self.steps, self.checks = metrics, rules, steps, checks


class _Output:
    """How to talk to the person or program that runs the command."""

    def __init__(self, as_json: bool, quiet: bool, verbose: int, dry_run: bool) -> None:
        self.as_json, self.quiet, self.verbose, self.dry_run = as_json, quiet, verbose, dry_run

    def error(self, text: str) -> None:
        print(text, file=sys.stderr)

    def document(self, data: dict[str, Any]) -> None:
        self.text(json.dumps(data, indent=2, default=str))

    def text(self, text: str) -> None:
        """Print to stdout; what a run has done stands where that fails, but it must not seem that nothing was said."""
        say(text, "a run that was made is whole: its folder holds manifest and report")


def _start(flags: dict[str, Any], config: Path | None, output: _Output, own: _Own) -> int:
    from daskae.config import load_settings

    settings = load_settings(flags, config)
    return _plan_only(settings, output, own) if output.dry_run else _run(settings, output, own)


def _plan_only(settings: "Settings", output: _Output, own: _Own) -> int:
    from daskae.run.dry import describe_plan, plan_document, plan_without_writing

    keep_what_is_loaded()
    dry = plan_without_writing(settings, own.metrics, own.rules, own.steps, own.checks)
    if output.as_json:
        output.document(plan_document(dry, settings))
    else:
        output.text(describe_plan(dry, settings))
    return 0


def _run(settings: "Settings", output: _Output, own: _Own) -> int:
    from daskae.engine.early import expect_workers, fork_workers

    expected = expect_workers(settings)  # before the imports that take the longest
    from daskae.monitor.logfile import attach_log_stream
    from daskae.monitor.progress import TerminalProgress
    from daskae.run.job import run_job
    from daskae.run.signals import terminate_like_interrupt

    keep_what_is_loaded()
    with terminate_like_interrupt(), fork_workers(expected, settings.workers) as early, ExitStack() as stack:
        listeners = []
        if output.verbose:
            stack.enter_context(attach_log_stream(sys.stderr))
        elif not output.quiet:
            listeners.append(stack.enter_context(TerminalProgress(sys.stderr)))
        result = run_job(settings, own.metrics, listeners, own.rules, own.steps, own.checks, early)
    _print_summary(result.summary, output)
    return 3 if result.summary.status == "done_with_rejects" else 0


def _print_summary(summary: "RunSummary", output: _Output) -> None:
    if output.as_json:
        output.document(summary.to_json())
        return
    from daskae.report.summary_text import render_summary

    output.text(render_summary(summary, **style()))


def _leave(code: int) -> NoReturn:
    """End this process without taking apart what it has loaded, which takes a tenth of a second.

    By now whatever had to be closed is closed, however the run ended.
    """
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):  # what matters has been written by now, or its failure told
            stream.flush()
    logging.shutdown()
    os._exit(code)


if __name__ == "__main__":
    tune_allocators()
    start_without_collections()
    _leave(main())
