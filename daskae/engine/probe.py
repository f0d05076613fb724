"""What is checked on every worker before the first task: versions, memory, the work directory and the input.

A task that fails on the thousandth partition because one of forty nodes lacks a mount costs hours; this costs seconds.
"""

import os
import platform
import secrets
from collections.abc import Callable
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

import daskae
from daskae.engine.base import TASK_SHARE, Needs
from daskae.errors import DaskaeError, EngineError, PlanError, WorkersUnavailableError
from daskae.hashing import digest_texts
from daskae.units import format_bytes

PACKAGES = ("python", "daskae", "polars", "pyarrow", "dask", "distributed")
_SAME = "install the same versions everywhere, for example from one image or one shared environment"


def probe_workers(client: Any, needs: Needs) -> None:
    """Check all workers that are there.

    Raises
    ------
    EngineError
        If a worker has other versions, or does not see the work directory or the input.
    PlanError
        If a worker has less memory than a task needs.
    WorkersUnavailableError
        If a worker is gone before it answers.
    """
    workers = client.scheduler_info()["workers"]
    require_same_versions(client.get_versions(packages=list(PACKAGES)), workers)
    require_memory(workers, needs.projected_bytes)
    with token_file(needs.work_dir) as (path, token):
        answers = client.run(look_around, str(path or ""), token, needs.look, needs.inputs, on_error="return")
    for address, answer in answers.items():
        _require_fine(_label(workers, address), answer, path)


def require_same_versions(versions: dict[str, Any], workers: dict[str, Any]) -> None:
    """Check that workers have the packages of the driver.

    Raises
    ------
    EngineError
    """
    wanted = versions["client"]["packages"]
    for address, found in versions["workers"].items():
        packages = found["packages"]
        for name in PACKAGES:
            if packages.get(name) != wanted.get(name):
                raise EngineError(
                    "a worker has another version than the driver", f"{name} on {_label(workers, address)}",
                    str(packages.get(name) or "not installed"), str(wanted.get(name) or "not installed"), _SAME,
                )  # fmt: skip


def require_memory(workers: dict[str, Any], projected_bytes: int) -> None:
    """Check that a task fits each worker's memory, divided by the tasks that run there at once.

    Raises
    ------
    PlanError
    """
    for address, worker in workers.items():
        limit, threads = int((worker["memory_limit"] or 0) * TASK_SHARE), max(1, int(worker["nthreads"]))
        if limit and limit // threads < projected_bytes:
            tasks = f"{threads} task{'s' if threads > 1 else ''} at once"
            raise PlanError(
                "a task would need more memory than a worker has", _label(workers, address),
                f"{TASK_SHARE:.0%} of its limit are {format_bytes(limit)}, for {tasks}",
                f"at least {format_bytes(projected_bytes)} a task",
                "lower --block-size, or start workers with one thread and more memory",
            )  # fmt: skip


def look_around(path: str, token: str, look: Callable[[Any], None], inputs: Any) -> dict[str, str]:
    """Return what a worker found wrong, empty for nothing; runs on the worker."""
    found = {"host": platform.node(), "code": code_digest()}
    if path:
        try:
            seen = Path(path).read_text()
        except OSError as error:
            return {**found, "work": error.strerror or type(error).__name__}
        if seen != token:
            return {**found, "work": "another file of that name"}
        try:
            mine = Path(f"{path}.{os.getpid()}.{secrets.token_hex(4)}")
            mine.write_text(token)
            mine.unlink()
        except OSError as error:
            return {**found, "work": f"cannot be written: {error.strerror or type(error).__name__}"}
    try:
        look(inputs)
    except DaskaeError as error:
        return {**found, "input": error.what, "where": error.where, "got": error.got}
    return found


@lru_cache(maxsize=1)
def code_digest() -> str:
    """Return a hash of the package's source: a version number is the same for every commit in between."""
    root = Path(daskae.__file__).parent
    files = sorted(root.rglob("*.py"))
    return digest_texts(*(f"{path.relative_to(root)}\n{path.read_text('utf-8')}" for path in files))[:16]


@contextmanager
def token_file(folder: Path | None) -> Any:
    """Write a file that workers are to see."""
    token = secrets.token_hex(16)
    if folder is None:
        yield None, token
        return
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f".probe-{token[:8]}"
    path.write_text(token)
    try:
        yield path, token
    finally:
        with suppress(OSError):
            path.unlink()


def _require_fine(worker: str, answer: Any, path: Path | None) -> None:
    if isinstance(answer, ImportError):
        raise EngineError("a worker cannot load the code of the run", worker, str(answer)[:200], hint=_SAME) from answer
    if isinstance(answer, BaseException):
        raise WorkersUnavailableError(
            "a worker does not answer", worker, f"{type(answer).__name__}: {answer}"[:200],
            hint="look at its log, then run the same command again",
        ) from answer  # fmt: skip
    worker = f"{worker}, host {answer['host']}"
    if answer["code"] != code_digest():
        raise EngineError(
            "a worker has other code of daskae than the driver", worker, answer["code"], code_digest(), _SAME
        )
    if "work" in answer:
        raise EngineError(
            "a worker does not see the work directory", worker, f"{path and path.parent}: {answer['work']}",
            "one folder at the same path on the driver and on all workers", "set --work-dir to a shared file system",
        )  # fmt: skip
    if "input" in answer:
        raise EngineError(
            "a worker does not see the input", worker, f"{answer['where']}: {answer['input']} {answer['got']}".strip(),
            "the same files at the same paths as on the driver", "put the input on a shared file system or give a URL",
        )  # fmt: skip


def _label(workers: dict[str, Any], address: str) -> str:
    """Name a worker as people know it."""
    name = str(workers.get(address, {}).get("name", address))
    return f"worker {address}" if name == address else f"worker {name} at {address}"
