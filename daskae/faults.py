"""Places where a test may kill the process, to prove that a kill there does no harm.

A stage calls :func:`crash_point` with a name at every step whose interruption matters. In a normal run that is one
look at the environment. With ``DASKAE_CRASH_AT=sqlite.staged`` the process dies there as if by ``kill -9``: no
``finally``, no flush, no goodbye. ``DASKAE_CRASH_AT=sqlite.staged:3`` lets the first two passes live and dies at the
third. ``*:17`` dies at the seventeenth passage of any place, so a loop over the number visits every one of them.
"""

import os
import signal
from collections import Counter

CRASH_VARIABLE = "DASKAE_CRASH_AT"
ANY = "*"

_passes: Counter[str] = Counter()


def crash_point(name: str) -> None:
    """Kill this process with SIGKILL when the environment says so.

    Parameters
    ----------
    name : str
        Name of the place, ``stage.step``; it holds no colon.

    Raises
    ------
    ValueError
        If the environment names this place with something that is not a count of passes.
    """
    armed = os.environ.get(CRASH_VARIABLE)
    if armed is None:
        return
    target, _, count = armed.partition(":")
    if target not in (name, ANY):
        return
    if count and not (count.isdecimal() and int(count) > 0):
        raise ValueError(f"{CRASH_VARIABLE}={armed} is not a name, or a name with a count such as {name}:2")
    _passes[target] += 1
    if _passes[target] == int(count or 1):
        os.write(2, f"killed at {name}\n".encode())
        os.kill(os.getpid(), signal.SIGKILL)
