"""Look whether a target still holds what was loaded into it.

    python -m jobs.verify --to sqlite:///metrics.db [--config shop.toml] [--json]

Of every load whose rows are in the target they are counted again, and values of columns counted and added up, as the
ledger has noted them; of files the checksums are taken again. Nothing is written. Exit code 4 where something differs.
"""

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from daskae.errors import GateError
from daskae.units import format_count
from jobs.command import call, ended, new_app, say

if TYPE_CHECKING:
    from daskae.load.verified import Comparison, Verified

_MOST_SHOWN = 20


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
    app = new_app("verify", __doc__, "--to TARGET [OPTIONS]")

    @app.default
    def command(
        *,
        to: str,
        config: Path | None = None,
        json: Annotated[bool, Parameter(negative=(), show_default=False)] = False,
        verbose: Annotated[int, Parameter(alias=["-v"], count=True, negative=(), show_default=False)] = 0,
    ) -> int:
        """Compare a target with what was noted when it was loaded; exit code 4 where something differs.

        Parameters
        ----------
        to
            Target, as the job has it.
        config
            Settings of the job in TOML: load.timeout_seconds matters.
        json
            Print one JSON document.
        verbose
            Twice shows tracebacks.
        """
        return ended(lambda: _verify({"to": to}, config, json), verbose, after_a_break="nothing was written")

    return call(app, argv)


def _verify(flags: dict[str, Any], config: Path | None, as_json: bool) -> int:
    from daskae.config import load_settings
    from daskae.load.verifying import verified_document, verify_target

    settings = load_settings(flags, config)
    found = verify_target(settings.to, settings.load.timeout_seconds)
    say(json.dumps(verified_document(found), indent=2) if as_json else _text(found))
    return GateError.exit_code if found.differences else 0


def _text(found: "Verified") -> str:
    loads = "1 load" if found.loads == 1 else f"{format_count(found.loads)} loads"
    lines = [f"{found.target}: {loads}"]
    tables = list(dict.fromkeys(item.table for item in found.comparisons))
    width = max(map(len, tables), default=0)
    lines += [f"  {name:<{width}}  {_compared([i for i in found.comparisons if i.table == name])}" for name in tables]
    lines += [f"  not compared: {text}" for text in found.left_out]
    for item in found.differences[:_MOST_SHOWN]:
        load = f", load {item.load_id[:8]}" if item.load_id else ""
        lines += [f"differs: {item.table}{load}, {item.what}", f"  loaded  {item.loaded}", f"  found   {item.found}"]
    if len(found.differences) > _MOST_SHOWN:
        lines.append(f"... and {format_count(len(found.differences) - _MOST_SHOWN)} more; --json has them all")
    count = len(found.differences)
    end = f"{format_count(count)} of {format_count(len(found.comparisons))} comparisons differ"
    same = "what was compared is as it was loaded" if found.left_out else "all as it was loaded"
    return "\n".join([*lines, end if count else same])


def _compared(found: Sequence["Comparison"]) -> str:
    """Say what of a table was compared, and whether it is the same."""
    counts = Counter(item.what.partition(" ")[0] for item in found)
    rows = sum(int(item.loaded) for item in found if item.what == "rows")
    parts = [f"{format_count(rows):>12} rows"]
    parts += [f"{format_count(counts['values'])} columns, {format_count(counts['sum'])} of them added up"]
    parts += [f"{format_count(files)} file{'s' if files > 1 else ''}"] if (files := counts["file"]) else []
    differing = sum(not item.is_same for item in found)
    return f"{', '.join(parts)}: {f'{format_count(differing)} differ' if differing else 'as loaded'}"


if __name__ == "__main__":
    raise SystemExit(main())
