"""Notes of test processes read again: what was done in each test, and what was checked."""

import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

_CRASH_POINT = re.compile(r"(SIGKILL|SIGSTOP) at (.+)")
_KINDS = {"SIGKILL": "kill", "SIGSTOP": "pause"}


class Made(NamedTuple):
    """A fault, but for how many of them there were."""

    kind: str
    where: str
    process: str
    target: str
    seed: int | str | None


@dataclass
class Noted:
    """What was noted in one test."""

    test: str
    faults: Counter[Made] = field(default_factory=Counter)
    checks: dict[Made, Counter[str]] = field(default_factory=dict)
    """What was found well after the last fault of each kind; what was checked before says nothing about it."""

    def add(self, made: Made, count: int = 1) -> None:
        """Add faults that were made."""
        self.faults[made] += count
        self.checks[made] = Counter()

    def check(self, what: str) -> None:
        """Add a check of everything that was done up to now."""
        for counts in self.checks.values():
            counts[what] += 1


def read_notes(path: Path) -> Iterator[Noted]:
    """Yield what was noted in each test that made faults, in the order of the tests."""
    noted, process, target = Noted(""), "", ""
    for line in path.read_text(encoding="utf-8").splitlines():
        if point := _CRASH_POINT.fullmatch(line):
            made = Made(_KINDS[point[1]], point[2], process or "driver", target or _target_of_point(point[2]), None)
            noted.add(made)
            continue
        item = json.loads(line)
        if "test" in item:
            if noted.faults:
                yield noted
            noted, process, target = Noted(item["test"]), "", ""
        elif "armed" in item:
            process, target = item["armed"]["process"], item["armed"]["target"]
        elif "checked" in item:
            noted.check(item["checked"])
        else:
            noted.add(Made(*(item[name] for name in Made._fields)), item["count"])
    if noted.faults:
        yield noted


def _target_of_point(name: str) -> str:
    """Return the target that a crash point is named after, empty for those of the stages before it."""
    first = name.partition(".")[0]
    return first if first in ("sqlite", "postgresql", "mariadb", "duckdb", "portable", "parquet") else ""
