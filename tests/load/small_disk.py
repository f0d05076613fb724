"""Publish onto a small disk that this process mounts for itself; run by test_small_disks.py in a mount namespace."""

import json
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Any

from daskae.errors import LoadError
from daskae.load.base import Load
from daskae.load.targets import open_sink
from tests.fault_log import fault, target_of

from .harm import Site, assert_as_calm, parquet_site, postgresql_site, sqlite_site, state
from .processes import replace_crash_points
from .server import postgresql_server

Sites = Callable[[], Any]


def mount(disk: Path, *options: str) -> None:
    subprocess.run(["mount", *options, str(disk)], check=True)


def too_small(disk: Path, case: str, target: str, first: Load, second: Load) -> dict[str, Any]:
    """Publish a load that the disk does not take, then make room for it and run again."""
    mount(disk, "-t", "tmpfs", "-o", "size=500k", "tmpfs")
    sink = open_sink(target)
    sink.publish(first)
    if case == "read-only":
        mount(disk, "-o", "remount,ro")
    where = "from before the publish" if case == "read-only" else "in the middle of the publish"
    fault("full disk" if case == "full" else "read-only disk", where, "publisher", target_of(target))
    said = {}
    for step in (sink.publish,) if case == "full" else (sink.preflight, sink.publish):
        try:
            step(second)
        except LoadError as error:
            said[step.__name__] = str(error)
    mount(disk, "-o", "remount,rw,size=200m")
    kept = sink.preflight(first) is not None
    return {"said": said, "kept": kept, "again": sink.publish(second).rows}


def full_at_every_point(disk: Path, kind: str, first: Load, second: Load) -> dict[str, Any]:
    """Fill the disk at each crash point in turn, then make room and run again."""
    mount(disk, "-t", "tmpfs", "-o", "size=160m" if kind == "postgresql" else "size=8m", "tmpfs")
    with sites(kind, disk) as fresh:
        with fresh() as site:
            for load in (first, second):
                site.sink().publish(load)
            calm = state(site.target)
        said: dict[str, str] = {}
        for number in count(1):
            point = ""
            with fresh() as site:
                site.sink().publish(first)
                before = state(site.target)
                passed = count(1)

                def fill_up(name: str, number: int = number, passed: Iterator[int] = passed) -> None:
                    nonlocal point
                    if next(passed) == number:
                        point = f"{number} {name}"
                        fill(disk / "filler")
                        fault("full disk", name, "publisher", kind)

                replace_crash_points(fill_up)
                try:
                    site.sink().publish(second)
                except LoadError as error:
                    said[point] = str(error)
                replace_crash_points(lambda name: None)
                (disk / "filler").unlink(missing_ok=True)
                if not point:
                    return {"points": number - 1, "said": said}
                if site.server:
                    site.server.wait()
                found = state(site.target)
                for part in ("customer_metrics", "kpis", "ledger"):
                    assert found[part] in (before[part], calm[part]), (point, part)
                site.sink().publish(second)
                assert_as_calm(site.target, calm, point)
    raise AssertionError


def fill(path: Path) -> None:
    """Take all the room there is."""
    with path.open("wb", buffering=0) as filler, suppress(OSError):
        for size in (1 << 16, 1 << 12, 1):
            with suppress(OSError):
                while filler.write(b"x" * size) == size:
                    pass


@contextmanager
def sites(kind: str, disk: Path) -> Iterator[Sites]:
    """Give a way to make fresh targets on the disk."""
    if kind == "postgresql":
        with postgresql_server(disk / "data") as server:
            yield lambda: postgresql_site(server)
    else:
        make = {"sqlite": sqlite_site, "parquet": parquet_site}[kind]
        yield lambda: _emptied(make(disk), disk)


@contextmanager
def _emptied(site: Any, disk: Path) -> Iterator[Site]:
    with site as found:
        yield found
    subprocess.run(["find", str(disk), "-mindepth", "1", "-delete"], check=True)


def main(disk: str, case: str, target: str, *pickles: str) -> None:
    first, second = (pickle.loads(Path(path).read_bytes()) for path in pickles)
    if case == "every-point":
        print(json.dumps(full_at_every_point(Path(disk), target, first, second)))
    else:
        print(json.dumps(too_small(Path(disk), case, target, first, second)))


if __name__ == "__main__":
    main(*sys.argv[1:])
