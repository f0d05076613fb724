"""Places where a test may kill or stop the process, to prove that it does no harm there.

A stage calls :func:`crash_point` with a name at every step whose interruption matters. In a normal run that is two
looks at the environment. With ``DASKAE_CRASH_AT=sqlite.staged`` the process dies there as if by ``kill -9``: no
``finally``, no flush, no goodbye. ``DASKAE_CRASH_AT=sqlite.staged:3`` lets the first two passes live and dies at the
third. ``*:17`` dies at the seventeenth passage of any place, so a loop over the number visits every one of them.
``DASKAE_STOP_AT`` stops the process instead, as SIGSTOP does, until it is told to go on. Where ``DASKAE_TEST_FAULTS``
names a file each of that is added to it as a line.
"""

import os
import signal
import threading
from collections import Counter

CRASH_VARIABLE = "DASKAE_CRASH_AT"
STOP_VARIABLE = "DASKAE_STOP_AT"
NOTES_VARIABLE = "DASKAE_TEST_FAULTS"
ANY = "*"
_SIGNALS = {CRASH_VARIABLE: signal.SIGKILL, STOP_VARIABLE: signal.SIGSTOP}

_passes: Counter[tuple[str, str]] = Counter()


def crash_point(name: str) -> None:
    """Kill or stop this process when the environment says so.

    Parameters
    ----------
    name : str
        Name of the place, ``stage.step``; it holds no colon.

    Raises
    ------
    ValueError
        If the environment names this place with something that is not a count of passes.
    """
    for variable, number in _SIGNALS.items():
        armed = os.environ.get(variable)
        if armed is not None and _is_meant(variable, armed, name):
            _tell(f"{number.name} at {name}\n".encode())
            # To this very thread: what is sent to the process may stop another one first, while this one goes on.
            signal.pthread_kill(threading.get_ident(), number)


def _tell(line: bytes) -> None:
    os.write(2, line)
    notes = os.environ.get(NOTES_VARIABLE)
    if notes is not None:
        with open(notes, "ab", buffering=0) as file:
            file.write(line)


def _is_meant(variable: str, armed: str, name: str) -> bool:
    target, _, count = armed.partition(":")
    if target not in (name, ANY):
        return False
    if count and not (count.isdecimal() and int(count) > 0):
        raise ValueError(f"{variable}={armed} is not a name, or a name with a count such as {name}:2")
    _passes[variable, target] += 1
    return _passes[variable, target] == int(count or 1)
