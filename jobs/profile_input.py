"""Profile order files: what every column holds, and settings that fit.

    python -m jobs.profile_input orders/ --out profile

The folder then holds ``profile.json`` and ``settings.toml``: columns mapped onto the order contract, and rules of which
each holds for the data profiled. Read it through, then give it to ``jobs.customer_metrics`` with ``--config``.
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from daskae.allocators import tune_allocators
from jobs.command import GO_ON, call, ended, new_app, style

if TYPE_CHECKING:
    from daskae.config import Settings
    from daskae.run.profile import InputProfile

_EPILOGUE = """Exit codes: 0 done; 1 failed; 2 usage or settings; 75 try again later; 130/143 interrupted."""


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
    app = new_app("profile_input", __doc__, "INPUT... [OPTIONS]", _EPILOGUE)

    @app.default
    def command(
        *inputs: str,
        config: Path | None = None,
        out: Path = Path("profile"),
        delimiter: str | None = None,
        encoding: str | None = None,
        cluster: str | None = None,
        workers: int | None = None,
        memory_limit: str | None = None,
        block_size: str | None = None,
        work_dir: Path | None = None,
        fresh: Annotated[bool, Parameter(negative=(), show_default=False)] = False,
        json: Annotated[bool, Parameter(negative=(), show_default=False)] = False,
        quiet: Annotated[bool, Parameter(negative=(), show_default=False)] = False,
        verbose: Annotated[int, Parameter(alias=["-v"], count=True, negative=(), show_default=False)] = 0,
    ) -> int:
        """Read files once, tell what every column holds, and suggest settings whose every rule holds for them.

        Parameters
        ----------
        inputs
            Files, folders, patterns or fsspec URLs; CSV (plain, gzip, zstd, bz2, xz) or Parquet; or a database URL.
        config
            Settings in TOML; the tables [input] and [money] say how the files are read.
        out
            Folder for profile.json and settings.toml.
        delimiter
            What stands between two cells of a CSV file. [default: ,]
        encoding
            How CSV files are written. [default: utf-8]
        cluster
            auto, inline, local, slurm, kubernetes, tcp://…, tls://… or a scheduler FILE.json. [default: auto]
        workers
            Worker processes or threads of this machine. [default: one a core]
        memory_limit
            Bytes a worker may use, such as 2GB. [default: its share of what is free]
        block_size
            Bytes of a large file that one task reads. [default: 64MiB]
        work_dir
            Where intermediate results are kept. [default: .daskae]
        fresh
            Use nothing of earlier runs.
        json
            Print the profile as one JSON document to stdout instead of text.
        quiet
            No progress on stderr.
        verbose
            Say more; twice shows tracebacks.
        """
        dialect = {"delimiter": delimiter, "encoding": encoding}
        given = {
            "inputs": list(inputs) or None, "cluster_name": cluster, "workers": workers, "memory_limit": memory_limit,
            "block_size": block_size, "work_dir": work_dir, "fresh": fresh or None,
            "input": {name: value for name, value in dialect.items() if value is not None} or None,
        }  # fmt: skip
        flags = {name: value for name, value in given.items() if value is not None}
        return ended(lambda: _write(flags, config, out, json, quiet), verbose, after_a_break=GO_ON)

    return call(app, argv)


def _write(flags: dict[str, Any], config: Path | None, out: Path, as_json: bool, quiet: bool) -> int:
    from daskae.config import load_settings
    from daskae.run.profile import write_profile

    profile = _profile(load_settings(flags, config), quiet)
    written = write_profile(profile, out)
    _print(profile, [str(path) for path in written], as_json)
    return 0


def _profile(settings: "Settings", quiet: bool) -> "InputProfile":
    from daskae.monitor.progress import TerminalProgress
    from daskae.run.profile import profile_input
    from daskae.run.signals import terminate_like_interrupt

    with terminate_like_interrupt():
        if quiet:
            return profile_input(settings)
        with TerminalProgress(sys.stderr) as progress:
            return profile_input(settings, [progress])


def _print(profile: "InputProfile", written: Sequence[str], as_json: bool) -> None:
    if as_json:
        print(json.dumps({**profile.document, "written": list(written)}, indent=2))
        return
    from daskae.report.profile_text import render_profile

    print(render_profile(profile.document, **style()), end="")
    for path in written:
        print(f"  {path}")


if __name__ == "__main__":
    tune_allocators()
    raise SystemExit(main())
