"""What tests really do to the product, and what they check afterwards, noted where it happens.

A note is a line in a file that the environment names, so that every process of a test can write one: the test, what it
has started, and a crash point of the package, which notes the signal that it is about to send. Where the environment
names no file nothing is written. The plugin beside this module names one when pytest gets ``--fault-log``, and makes
of the notes the fault log of a release.
"""

import json
import os
import signal
from typing import Literal, get_args

from daskae.faults import NOTES_VARIABLE

Kind = Literal[
    "kill", "pause", "signal", "power cut", "power cut in a model",
    "full disk", "read-only disk", "failing disk", "flipped bit", "damaged file", "lost file", "changed input",
    "cut connection", "ended session", "silence", "pulled cable", "lost packets", "slow line",
    "held lock", "changed rows", "read-only database", "runs at once",
    "false clock", "clock jump", "too little memory", "unstable function", "hanging task",
    "ended job", "lost node", "refusing web server",
]  # fmt: skip
KINDS: tuple[Kind, ...] = get_args(Kind)
"""In the order of the summary."""

Check = Literal["rows", "bytes", "contents"]
CHECKS: dict[Check, str] = {
    "rows": "every source row is in the target or in the quarantine, exactly once",
    "bytes": "what is published has the bytes of the calm run",
    "contents": "tables, and the ledger where there is one, hold what they hold after the calm run",
}

_KINDS_OF_SIGNALS: dict[int, Kind] = {signal.SIGKILL: "kill", signal.SIGSTOP: "pause"}


def fault(
    kind: Kind, where: str, process: str = "", target: str = "", seed: int | str | None = None, count: int = 1
) -> None:  # fmt: skip
    """Note a fault that was made just now.

    Parameters
    ----------
    kind : str
    where : str
        In words, or the name of a crash point; no path of this machine.
    process : str, optional
        What kind of process it was done to.
    target : str, optional
        What kind of target was loaded; see :func:`target_of`.
    seed : int or str, optional
        Of the schedule or the place.
    count : int, default 1
        How many of them.
    """
    if count:
        _note({"kind": kind, "where": where, "process": process, "target": target, "seed": seed, "count": count})


def armed(process: str = "", target: str = "") -> None:
    """Note what kind of process the crash points of this test hit from now on."""
    _note({"armed": {"process": process, "target": target}})


def checked(what: Check) -> None:
    """Note that a checker has found all well."""
    _note({"checked": what})


def begin(test: str) -> None:
    """Note that a test begins; what follows is of it."""
    _note({"test": test})


def strike(
    pid: int, number: signal.Signals, where: str, process: str, target: str = "", seed: int | str | None = None,
    group: bool = False,
) -> None:  # fmt: skip
    """Send a signal to a process, this one too, or to its whole group, and note that."""
    os.kill(pid, 0)  # no note of what is not there
    kind = _KINDS_OF_SIGNALS.get(number, "signal")
    fault(kind, f"{number.name}, {where}" if kind == "signal" else where, process, target, seed)
    (os.killpg if group else os.kill)(pid, number)


def target_of(url: str) -> str:
    """Return the kind of a target: ``sqlite``, ``postgresql``, ... ``parquet`` where it is a folder."""
    scheme, _, rest = url.partition("://")
    return scheme.partition("+")[0] if rest else "parquet"


def _note(line: dict[str, object]) -> None:
    path = os.environ.get(NOTES_VARIABLE)
    if path is not None:
        with open(path, "ab", buffering=0) as file:
            file.write(f"{json.dumps(line)}\n".encode())
