"""Turn the checks of a Pandera schema or a Great Expectations suite into rules.

::

    python -m jobs.import_rules suite.json --out rules.toml
    python -m jobs.import_rules schemas.py:Orders --config settings.toml --out with_rules.toml

The settings go to stdout or the file; what could not be imported, and why, goes to stderr and into a comment there.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import App, Parameter

from daskae.errors import SettingsError
from jobs.command import call, ended

app = App(name="import_rules", version_flags=[], help_format="plaintext")


@app.default
def import_rules(
    source: str,
    /,
    *,
    out: Path | None = None,
    config: Path | None = None,
    on_failure: Literal["reject_row", "warn", "info", "block_run"] | None = None,
    strict: Annotated[bool, Parameter(negative=(), show_default=False)] = False,
) -> int:
    """Print settings whose rules say what a schema or suite of another tool says.

    Parameters
    ----------
    source
        A Great Expectations suite (JSON), a Pandera schema (YAML or JSON), or one in Python as module:schema or
        file.py:Schema; that code is run.
    out
        File to write the settings to. [default: stdout]
    config
        Settings that the rules will go with: their columns are used, and they come first in what is written.
    on_failure
        What every rule does on failure. [default: warn for Great Expectations, block_run for Pandera]
    strict
        Exit with 1 if anything could not be imported.
    """
    from daskae.config import load_settings
    from daskae.interop.rules import import_rules as make_rules
    from daskae.interop.sources import read_source
    from daskae.interop.text import settings_text, summary_text

    settings = load_settings({}, config)
    imported = make_rules(read_source(source), settings if config is not None else None, on_failure)
    given = config.read_text("utf-8") if config is not None else ""
    text = settings_text(imported, source, given)
    _require_readable(text, config)
    if out is None:
        print(text, end="")
    else:
        _write(out, text)
    print(summary_text(imported), file=sys.stderr)
    return 1 if strict and imported.skipped else 0


def _require_readable(text: str, config: Path | None) -> None:
    """Refuse settings that cannot be added to, such as those with their columns on one line."""
    import tomllib

    try:
        tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(
            "the rules cannot follow these settings", str(config or ""), str(error),
            "columns as a [columns] table and rules as [[rules]]", "leave --config out and join the two by hand",
        ) from None  # fmt: skip


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, "utf-8")
    except OSError as error:
        raise SettingsError("the settings cannot be written", str(path), error.strerror or str(error)) from None


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code.

    Parameters
    ----------
    argv : sequence of str, optional
        Arguments without the program's name; ``sys.argv`` unless given.
    """
    return ended(lambda: call(app, argv))


if __name__ == "__main__":
    raise SystemExit(main())
