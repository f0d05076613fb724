"""What parts cost: memory by their decoded size, disk by that of the whole input, and nothing that stays.

The decoded size of bytes of text is what the plan has measured: the cells that the first records become, each with the
20 bytes that Arrow and Polars add to a text. That of a bucket is its rows in the files between the stages.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.laws.limited import write_small
from tests.laws.test_memory import planned
from tests.laws.watched import Look, of_tasks, run_watched
from tests.support import EXACT_DUPLICATE, REPEATED_ORDER, write_settings

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
ROWS, BLOCK = 6_600_000, 2 << 20
BAD = ["O1,C1,tomorrow,1\n"] * 300_000 + ["O1,C7919,2024-01-01,1.25\n"] * 300_000


@dataclass(frozen=True)
class Watched:
    """A run over some 200 MB of short orders, a tenth of them rejected, with rules that look for repeated ones."""

    looks: list[Look]
    cells: float
    """Decoded bytes of a byte of text."""
    text: int
    buckets: int
    exchanged: int
    """Bytes of accepted rows between map and reduce."""

    @property
    def disk(self) -> int:
        """The most that the work directory took."""
        return max(look.disk for look in self.looks)


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Watched:
    folder = tmp_path_factory.mktemp("parts")
    inputs = write_small(folder / "in", ROWS, BAD)
    rules: list[dict[str, Any]] = [EXACT_DUPLICATE, REPEATED_ORDER]
    plan = planned(inputs, folder / "plan", block_size=BLOCK, rules=rules)
    looks = run_watched(inputs, folder, write_settings(folder / "rules.toml", *rules), block_size=BLOCK)
    exchanged = sum(path.stat().st_size for path in folder.glob("work/maps/*/*/rows-*.arrow"))
    return Watched(looks, plan.projection.expansion.cells, plan.source.nbytes, plan.buckets, exchanged)


def above(looks: list[Look]) -> list[int]:
    """Measured peaks above what the process held before each task."""
    return [look.peak - look.before for look in looks]


def test_a_part_takes_no_more_than_four_times_its_decoded_size(watched: Watched) -> None:
    """The first ones bring code and pools of memory that stay in the process."""
    parts = of_tasks(watched.looks, "map")
    assert len(parts) > 100
    bound = 4 * watched.cells * max(part.input_bytes for part in parts)
    assert np.percentile(above(parts[10:]), 99) <= bound
    assert max(above(parts[:10])) <= bound + (32 << 20)


def test_a_bucket_takes_no_more_than_four_times_its_rows(watched: Watched) -> None:
    buckets = of_tasks(watched.looks, "reduce")
    assert len(buckets) == watched.buckets > 1
    assert max(above(buckets)) <= 4 * watched.exchanged / watched.buckets


def test_the_work_directory_takes_no_more_than_one_and_a_half_times_the_decoded_input(watched: Watched) -> None:
    assert watched.disk <= 1.5 * watched.cells * watched.text


def test_nothing_stays_of_a_thousand_equal_parts(tmp_path: Path) -> None:
    """By what the process holds when a task has ended, and at its peak; the first two hundred warm it up."""
    inputs = write_small(tmp_path / "in", 1_350_000)
    parts = of_tasks(run_watched(inputs, tmp_path, block_size=32 << 10), "map")[200:]
    assert len(parts) >= 1000
    for held in ([part.after for part in parts], [part.peak for part in parts]):
        assert np.polyfit(np.arange(len(held)), held, 1)[0] <= 20_000
