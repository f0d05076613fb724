"""Take the personal data of customers out of what the job keeps.

    python -m jobs.purge CUSTOMER_ID... --to sqlite:///metrics.db

Their rows leave the target in one transaction, or with one new snapshot of a folder; cached intermediate results go;
rejected rows and corrections that name them go; reports, manifests and logs of runs no longer name them
(:mod:`daskae.run.purge` says how). Sums over many customers, such as cohorts, stay as they were loaded, and so does the
ledger. The input is not touched: a later run brings the customers back unless the input, or a rule, leaves them out.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from daskae.masking import mask_secrets
from daskae.units import format_count
from jobs.command import call, ended, new_app, say

if TYPE_CHECKING:
    from daskae.run.purge import PurgeOutcome

_NOTE = "the input still has them: a later run brings them back unless the input, or a rule, leaves them out"
_WORDS = {
    "rejected_rows": "rejected rows", "corrections": "corrections", "masked_files": "files with a mask in it",
    "removed_files": "whole files", "cached_files": "cached files",
}  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Parameters
    ----------
    argv : sequence of str, optional
        Arguments without the program's name; ``sys.argv`` unless given.

    Returns
    -------
    int
        The exit code.
    """
    app = new_app("purge", __doc__, "CUSTOMER_ID... --to TARGET [OPTIONS]")

    @app.default
    def command(
        *customers: str,
        to: str,
        config: Path | None = None,
        work_dir: Path | None = None,
        dry_run: Annotated[bool, Parameter(negative=(), show_default=False)] = False,
        json: Annotated[bool, Parameter(negative=(), show_default=False)] = False,
        verbose: Annotated[int, Parameter(alias=["-v"], count=True, negative=(), show_default=False)] = 0,
    ) -> int:
        """Remove customers from the target and the work directory; the same command again completes a killed one.

        Parameters
        ----------
        customers
            Ids, exactly as the target's column customer_id has them.
        to
            Target, as the job has it.
        config
            Settings of the job in TOML: work_dir and load.timeout_seconds matter.
        work_dir
            Work directory of the job. [default: .daskae]
        dry_run
            Count only.
        json
            Print one JSON document.
        verbose
            Twice shows tracebacks.
        """
        flags: dict[str, Any] = {"to": to, **({} if work_dir is None else {"work_dir": work_dir})}
        after = "run the same command again to complete it"
        return ended(lambda: _purge(customers, flags, config, dry_run, json), verbose, after_a_break=after)

    return call(app, argv)


def _purge(
    customers: Sequence[str], flags: dict[str, Any], config: Path | None, dry_run: bool, as_json: bool
) -> int:  # fmt: skip
    from daskae.config import load_settings
    from daskae.run.purge import purge_customers

    settings = load_settings(flags, config)
    unique = list(dict.fromkeys(customers))
    outcome = purge_customers(settings, unique, dry_run=dry_run)
    target, work = mask_secrets(settings.to), str(settings.work_dir)
    document = _document(outcome, len(unique), target, work, dry_run)
    say(json.dumps(document, indent=2) if as_json else _text(outcome, len(unique), target, work, dry_run))
    return 0


def _document(outcome: "PurgeOutcome", customers: int, target: str, work: str, dry_run: bool) -> dict[str, Any]:
    return {
        "schema_version": 1, "customers": customers, "dry_run": dry_run,
        "target": {"url": target, **asdict(outcome.target)}, "work_dir": {"path": work, **outcome.work}, "note": _NOTE,
    }  # fmt: skip


def _text(outcome: "PurgeOutcome", customers: int, target: str, work: str, dry_run: bool) -> str:
    rows = [f"rows of {name}: {format_count(count)}" for name, count in outcome.target.rows.items()]
    snapshots = outcome.target.older_snapshots
    rows += [f"older snapshots: {format_count(snapshots)}"] if snapshots else []
    kept = [f"{_WORDS[name]}: {format_count(count)}" for name, count in outcome.work.items() if count]
    begin = "would be removed" if dry_run else "removed"
    lines = [f"{begin}, for {format_count(customers)} customer {'id' if customers == 1 else 'ids'}:"]
    lines += [f"  {place}: {', '.join(found) or 'nothing'}" for place, found in ((target, rows), (work, kept))]
    return "\n".join([*lines, _NOTE])


if __name__ == "__main__":
    raise SystemExit(main())
