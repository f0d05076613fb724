"""Workers of this machine as forks of one process that has imported everything.

A worker that starts as a new interpreter imports for more than a second, and so does each of its siblings, on the cores
the driver wants too. Forks of a prepared process, Python's fork server, are there in a tenth of that, share its
memory, and start while the driver still looks at the input. Nothing is computed there, so that Polars' threads, which a
fork would lose, do not exist yet. Where there is no such server (any system but Linux), workers start as new
interpreters.
"""

import multiprocessing
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from multiprocessing import forkserver, resource_tracker

from daskae.allocators import ALLOCATOR_ENVIRONMENT
from daskae.engine.started import THREAD_VARIABLES

METHOD = "forkserver" if sys.platform == "linux" else "spawn"
"""How Dask starts a worker."""
WORKER_ENVIRONMENT = {**dict.fromkeys(THREAD_VARIABLES, "1"), **ALLOCATOR_ENVIRONMENT}
MODULES = ["daskae.pipeline"]
"""What that process imports."""
DASK_MODULES = ["distributed.nanny", *MODULES]
"""What it imports where its forks will be workers of Dask."""


def prepare_workers(modules: Sequence[str] = DASK_MODULES) -> None:
    """Start the process whose forks are the workers; nothing if it runs already. It ends with this process."""
    if METHOD != "forkserver":
        return
    multiprocessing.set_forkserver_preload(list(modules))
    resource_tracker.ensure_running()  # whoever starts it unblocks the signal
    with _environment(WORKER_ENVIRONMENT), _interrupts_blocked():
        forkserver.ensure_running()


@contextmanager
def main_left_out() -> Iterator[None]:
    """Let no worker that is started meanwhile import the program that is run.

    What tasks need of it travels with them. A script that does not ask whether it is the main program would begin
    anew in every worker, and one that was typed or piped in has no file to import.
    """
    main = sys.modules["__main__"]
    hidden = {name: getattr(main, name) for name in ("__spec__", "__file__") if hasattr(main, name)}
    main.__spec__ = main.__file__ = None
    try:
        yield
    finally:
        for name in ("__spec__", "__file__"):
            delattr(main, name)
        for name, value in hidden.items():
            setattr(main, name, value)


@contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    """Set what a process that is started here inherits; what the user has set stays."""
    added = {name: value for name, value in values.items() if name not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            del os.environ[name]


@contextmanager
def _interrupts_blocked() -> Iterator[None]:
    before = block_interrupts()
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def block_interrupts() -> set[int]:
    """Block Ctrl-C in this thread and in processes that it starts; return what was blocked before.

    A terminal sends it to all processes at once; the driver alone decides, and ends the workers.
    """
    return signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT}) if hasattr(signal, "pthread_sigmask") else set()
