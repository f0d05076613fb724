"""Every single byte of what a run leaves for later ones may flip: it is found out, and the result stays the same."""

import os
import random
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from daskae.errors import InputError
from daskae.exchange import MANIFEST, files_are_whole, load_manifest
from daskae.partition import ExchangeFile, Segment
from daskae.read import discover
from daskae.run.corrections import Correction, corrections_path, load_corrections, store_corrections
from daskae.stages import split
from daskae.stages.layout import Layout
from daskae.validate import reference
from tests.fault_log import fault
from tests.support import EXACT_DUPLICATE, POSITIVE_QUANTITY, Run, assert_same, orders_csv, run

from .jobs import Calm, Job
from .test_cut import Scene

SEED = 20_240_301
BITS = [1 << number for number in range(8)]


@dataclass(frozen=True)
class Stored:
    """An input, what a run made of it, and the work directory that it left."""

    folder: Path
    calm: Run
    rules: list[dict[str, Any]]

    @property
    def kept(self) -> Path:
        return self.folder / "kept"

    def bring_back(self) -> Path:
        """Make the work directory what it was when the run had ended; steps are known by its path."""
        reference._open.cache_clear()  # this process may know files of that name by heart
        shutil.rmtree(self.folder / "work", ignore_errors=True)
        return Path(shutil.copytree(self.kept, self.folder / "work"))

    def again(self, target: Path) -> Run:
        """Run over the work directory as it is now, into another target."""
        return run(self.folder / "in", target, rules=self.rules, block_size=2000, work_dir=self.folder / "work")

    def first(self, kind: str) -> Path:
        """Return the smallest stored file of a kind."""
        return min(self.kept.glob(kind), key=lambda path: (path.stat().st_size, path))


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Stored:
    folder = tmp_path_factory.mktemp("stored")
    (folder / "in").mkdir()
    for i in range(2):
        path = folder / "in" / f"orders-{i}.csv"
        path.write_bytes(orders_csv(40, first=35 * i))
        os.utime(path, (1_700_000_000, 1_700_000_000))  # what was scanned just now would be scanned again
    (folder / "known.csv").write_text("id\n" + "".join(f"C{i}\n" for i in range(6)))
    known = {"rule": "reference", "name": "known", "column": "customer_id", "source": f"{folder}/known.csv",
             "source_column": "id", "on_failure": "reject_row"}  # fmt: skip
    by_key = {"rule": "unique", "name": "repeated_order", "columns": ["order_id"]}
    rules: list[dict[str, Any]] = [POSITIVE_QUANTITY, by_key, EXACT_DUPLICATE, known]
    calm = run(folder / "in", folder, rules=rules, block_size=2000)
    assert calm.counts["known"] > 0
    assert calm.counts["repeated_order"] > 0
    (folder / "work").rename(folder / "kept")
    return Stored(folder, calm, rules)


def flipped(data: bytes, bits: list[int] = BITS) -> Iterator[bytes]:
    """Yield a text with each bit of each byte flipped, one at a time."""
    for place in range(len(data)):
        for bit in bits:
            yield data[:place] + bytes([data[place] ^ bit]) + data[place + 1 :]


def assert_no_flip_goes_unnoticed(path: Path, load: Callable[[], Any], bits: list[int] = BITS) -> int:
    """Check that what is loaded is what was stored, or nothing; returns how many flips change nothing."""
    data, expected, harmless, made = path.read_bytes(), load(), 0, 0
    assert expected is not None
    try:
        for damaged in flipped(data, bits):
            path.write_bytes(damaged)
            made += 1
            found = load()
            assert found is None or found == expected, damaged
            harmless += found is not None
    finally:
        fault("flipped bit", f"every byte of a stored file, {len(bits)} bits each", count=made)
    path.write_bytes(data)
    assert load() == expected
    return harmless


@pytest.mark.parametrize("kind", ["maps/*/*/manifest.json", "steps/*/manifest.json", "references/*/manifest.json"])
def test_every_bit_of_a_manifest(kind: str, stored: Stored, tmp_path: Path) -> None:
    path = tmp_path / MANIFEST
    shutil.copy(stored.first(kind), path)
    # A space between two words of JSON may become another white space.
    assert assert_no_flip_goes_unnoticed(path, lambda: load_manifest(tmp_path), BITS[::3]) <= 20


def test_every_bit_of_a_note_of_cut_partitions(tmp_path: Path) -> None:
    pieces = [Segment("/x/a.csv", "a.csv", "csv", i, i + 10, 10, "ab" * 16, ("id", "n"), "1-2-3") for i in (3, 13)]
    split._save(tuple(pieces), tmp_path)
    assert assert_no_flip_goes_unnoticed(tmp_path / split.SPLIT, lambda: split.load_split(tmp_path)) <= 20


def test_every_bit_of_what_a_scan_found(stored: Stored, tmp_path: Path) -> None:
    path = tmp_path / "scan.json"
    shutil.copy(stored.first("scans/*.json"), path)
    assert assert_no_flip_goes_unnoticed(path, lambda: discover._load(path)) <= 20


@pytest.mark.parametrize(
    "kind", ["rows-", *(pytest.param(name, marks=pytest.mark.slow) for name in ("rejects-", "keys-"))]
)
def test_every_byte_of_an_exchange_file(kind: str, stored: Stored, tmp_path: Path) -> None:
    path = stored.first(f"maps/*/*/{kind}*")
    manifest = load_manifest(path.parent)
    assert manifest is not None
    (file,) = (ExchangeFile(**item) for item in manifest["files"].values() if item["name"] == path.name)
    copy = tmp_path / path.name
    shutil.copy(path, copy)

    def load() -> bytes | None:
        return copy.read_bytes() if files_are_whole(tmp_path, [file], thorough=True) else None

    assert assert_no_flip_goes_unnoticed(copy, load, [1]) == 0


def test_every_bit_of_a_layout(stored: Stored, tmp_path: Path) -> None:
    path = tmp_path / "layout.json"
    shutil.copy(stored.first("runs/*/layout.json"), path)

    def load() -> Layout | None:
        try:
            return Layout.load(path)
        except Exception:
            return None

    assert_no_flip_goes_unnoticed(path, load, [1])


KINDS = [
    "maps/*/*/manifest.json", "maps/*/*/rows-*", "maps/*/*/keys-*", "maps/*/*/rejects-*", "steps/*/manifest.json",
    "steps/*/states-*", "steps/*/customers-*", "steps/*/rejected-*", "steps/*/repeated-*", "scans/*.json",
    "references/*/manifest.json", "references/*/keys.arrow", "turns/*.taken", "turns/*.published", "runs/*/*.json",
    "runs/*/*.arrow",
]  # fmt: skip
QUICK = ("maps/*/*/manifest.json", "scans/*.json", "references/*/keys.arrow")
FLIPS = [
    pytest.param(kind, seed, id=f"{kind}-{seed}", marks=[] if kind in QUICK and seed == 0 else [pytest.mark.slow])
    for kind in KINDS
    for seed in range(6)
]


def test_every_byte_of_the_corrections(tmp_path: Path) -> None:
    found = [
        Correction("orders.csv", 30 + i, False, f"O{i},C1,2024-01-05,{i}", 0, 90, "ab" * 16, i, "r1") for i in range(3)
    ]
    assert store_corrections(tmp_path, found) == 3

    def load() -> list[Correction] | None:
        try:
            return [Correction(**row) for row in load_corrections(tmp_path).to_dicts()]
        except InputError:
            return None

    assert load() == found
    assert_no_flip_goes_unnoticed(corrections_path(tmp_path), load, [1, 128])


@pytest.mark.parametrize(("kind", "seed"), FLIPS)
def test_a_run_over_a_flipped_byte(kind: str, seed: int, stored: Stored, tmp_path: Path) -> None:
    """The part is done again, whatever was hit: the result is the calm one."""
    chosen = random.Random(f"{SEED} {kind} {seed}")
    path = chosen.choice(sorted(stored.bring_back().glob(kind)))
    data = bytearray(path.read_bytes())
    place = chosen.randrange(len(data))
    data[place] ^= chosen.choice(BITS)
    path.write_bytes(data)
    fault("flipped bit", kind, seed=seed)
    if kind.startswith("references"):
        shutil.rmtree(stored.folder / "work" / "maps")  # so that the rows are judged again
    assert_same(stored.again(tmp_path), stored.calm)


@pytest.mark.parametrize(
    "damage",
    [b"", b"\0" * 700, pytest.param(b"ARROW1\0\0" * 99, marks=pytest.mark.slow)],
    ids=["empty", "zeros", "junk"],
)
def test_keys_of_a_reference_that_a_power_cut_has_torn(damage: bytes, stored: Stored, tmp_path: Path) -> None:
    (path,) = stored.bring_back().glob("references/*/keys.arrow")
    path.write_bytes(damage)
    fault("damaged file", "keys of a reference, as a power cut tears them")
    shutil.rmtree(stored.folder / "work" / "maps")
    assert_same(stored.again(tmp_path), stored.calm)


@pytest.mark.parametrize("name", ["taken", pytest.param("published", marks=pytest.mark.slow)])
def test_the_number_of_a_turn_that_is_lost(name: str, calm: Calm, job: Job) -> None:
    """Of two files that count the runs of a command one may be torn; the next run is the latest all the same."""
    for days in ("3", "30"):
        job.finish(DASKAE_METRICS__CHURN_DAYS=days)
    (path,) = (job.folder / "work" / "turns").glob(f"*.{name}")
    path.write_bytes(b"")
    fault("damaged file", f"turns/*.{name} emptied")
    document = job.finish()
    assert not document["already_published"]
    calm.assert_equal(job, document)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_a_run_over_a_flipped_note_of_cut_partitions(seed: int, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "orders.csv").write_bytes(orders_csv(60))
    scene = Scene(tmp_path, tmp_path / "in", [])
    calm = scene.run("calm")
    scene.run("cut", most=12)
    notes = sorted((tmp_path / "cut" / "work").glob(f"maps/*/*/{split.SPLIT}"))
    chosen = random.Random(SEED + seed)
    for path in notes:
        data = bytearray(path.read_bytes())
        data[chosen.randrange(len(data))] ^= chosen.choice(BITS)
        path.write_bytes(data)
        fault("flipped bit", f"maps/*/*/{split.SPLIT}", seed=seed)
    shutil.rmtree(tmp_path / "cut" / "out")
    scene.assert_same("cut", scene.run("cut", most=12), calm)
