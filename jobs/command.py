"""What the commands have in common: from arguments to a call, from every ending to an exit code and a plain text."""

import json
import os
import shutil
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from cyclopts import App, CycloptsError

from daskae import __version__
from daskae.errors import DaskaeError

GO_ON = "finished parts are kept, run the same command again to go on"
"""What is said of commands that keep what they have done, after "interrupted"."""


def new_app(name: str, text: str | None, usage: str, more: str = "") -> App:
    """Return a command without functions.

    Parameters
    ----------
    name : str
    text : str or None
        Of the module; its first line is the help.
    usage : str
        What comes behind the command's name.
    more : str
        Further help, below that line.
    """
    words = "\n\n".join(part for part in ((text or "").partition("\n")[0], more) if part)
    return App(name=name, help=words, version=__version__, usage=f"Usage: python -m jobs.{name} {usage}")


def call(app: App, argv: Sequence[str] | None) -> int:
    """Call a command.

    Parameters
    ----------
    app : App
        Its functions return exit codes.
    argv : sequence of str or None
        Arguments without the program's name; those of the process for None.

    Returns
    -------
    int
        The exit code: 2 where the arguments cannot be understood, which has been told then; 0 for help.
    """
    if sys.stdout is None:  # closed by whoever started this
        sys.stdout = os.fdopen(os.open(os.devnull, os.O_WRONLY), "w")
    if sys.stderr is None:
        sys.stderr = os.fdopen(os.open(os.devnull, os.O_WRONLY), "w")
    try:
        result = app(
            list(sys.argv[1:] if argv is None else argv),
            exit_on_error=False, print_error=True, result_action="return_value",
        )  # fmt: skip
        sys.stdout.flush()
    except CycloptsError:
        return 2
    except BrokenPipeError:  # in the middle of the help
        _leave_stdout()
        return 0
    return result if isinstance(result, int) else 0


def say(text: str, hint: str = "") -> None:
    """Print to stdout, whether or not its reader is still there.

    Raises
    ------
    DaskaeError
        If it cannot be written for another reason.
    """
    try:
        print(text, flush=True)
    except BrokenPipeError:
        _leave_stdout()
    except OSError as error:
        _leave_stdout()
        got = error.strerror or str(error)
        raise DaskaeError("the output cannot be written to stdout", got=got, hint=hint) from error


def style() -> dict[str, Any]:
    """Return ``color`` and ``width`` of what is written to stdout."""
    color = sys.stdout.isatty() and "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"
    return {"color": color, "width": min(110, shutil.get_terminal_size().columns)}


def _leave_stdout() -> None:
    """Write nothing more to a reader that has gone, or a disk that is full."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def ended(
    work: Callable[[], int], verbose: int | None = None, as_json: bool = False,
    after_a_break: str = "run the same command again",
) -> int:  # fmt: skip
    """Do the work of a command, and turn every ending into an exit code and a plain text on stderr.

    Parameters
    ----------
    work : callable
        Returns an exit code.
    verbose : int or None
        From 2 on, tracebacks are shown. None for a command that cannot be asked for them, which shows those of faults.
    as_json : bool
        Whether the summary of a run that failed goes to stdout as a JSON document.
    after_a_break : str
        What is said after "interrupted".
    """
    from daskae.run.ending import describe_failure

    try:
        return work()
    except DaskaeError as error:
        if as_json and error.summary is not None:
            with suppress(OSError):  # the error itself is yet to be told
                print(json.dumps(error.summary.to_json(), indent=2, default=str), flush=True)  # type: ignore[attr-defined]
        print(describe_failure(error, verbose or 0), file=sys.stderr)
        return error.exit_code
    except BrokenPipeError:
        _leave_stdout()
        return 0
    except KeyboardInterrupt as error:
        print(f"\ninterrupted; {after_a_break}", file=sys.stderr)
        return 143 if type(error).__name__ == "Terminated" else 130
    except Exception as error:
        print(describe_failure(error, 2 if verbose is None else verbose), file=sys.stderr)
        return 1
