import gzip
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from daskae.aggregate.customer import BUILT_IN
from daskae.config import MetricSettings, RuleSettings
from daskae.errors import EngineError, InputError
from daskae.exchange import SLOTS, read_frame, slots_of
from daskae.hashing import hash_text
from daskae.partition import PartitionRef, PartitionResult, Segment
from daskae.read.dialect import Dialect
from daskae.read.scan import scan_csv
from daskae.schema import build_contract
from daskae.stages import map as map_stage
from daskae.stages.large import reduce_bucket
from daskae.stages.layout import build_layout
from daskae.stages.map import process_partition, to_units
from daskae.stages.reduce import ReduceTask
from daskae.stages.spec import Spec
from daskae.validate.build import build_rules
from tests.support import orders_csv
from tests.support import run as whole_run

NAMES = ("order_id", "customer_id", "order_date", "amount", "note")
TEXT = (
    "order_id,customer_id,order_date,amount,note\n"
    "1,C1,2024-01-01,1.50,a\n"
    "2,C2,2024-01-02,x,b\n"
    "3,C1,2024-02-01,2.25,c\n"
    "broken\n"
    "1,C1,2024-01-01,1.50,a\n"
    "3,C3,2024-03-01,7,d\n"
)
POOL = ThreadPoolExecutor(1)
DUPLICATE = {"rule": "unique", "name": "duplicate", "columns": "*"}
REPEATED = {"rule": "unique", "name": "repeated", "columns": ["order_id"]}


def spec(*rules: dict[str, Any]) -> Spec:
    contract = build_contract({}, NAMES, scale=2)
    built = build_rules([RuleSettings(**rule) for rule in rules], contract, NAMES)
    return Spec(Dialect(), contract, built, BUILT_IN, MetricSettings())


def segments_of(folder: Path, text: str = TEXT, block: int = 1 << 20) -> list[Segment]:
    (folder / "a.csv").write_text(text)
    return scan_csv(str(folder / "a.csv"), "a.csv", Dialect(), block, POOL)


def run(folder: Path, spec: Spec, block: int = 1 << 20) -> tuple[list[PartitionRef], list[PartitionResult], list[Path]]:
    refs = [PartitionRef((segment,)) for segment in segments_of(folder, block=block)]
    folders = [folder / f"map-{i}" for i in range(len(refs))]
    return refs, [process_partition(ref, spec, target) for ref, target in zip(refs, folders, strict=True)], folders


def test_what_a_map_task_leaves(tmp_path: Path) -> None:
    (_,), (result,), (folder,) = run(tmp_path, spec())
    assert (result.rows, result.rejected, result.segment_rows, result.segment_rejected) == (6, 2, (6,), (2,))
    assert result.rejected_by_rule == {"unparsable_number": 1, "wrong_field_count": 1}
    rows = read_frame([folder / result.files["rows"].name]).sort("seq")
    assert rows.columns == ["customer_id", "order_id", "order_date", "amount", "seq"]
    assert rows["amount"].to_list() == [150, 225, 150, 700]
    assert rows["seq"].to_list() == [0, 2, 4, 5]
    rejects = read_frame([folder / result.files["rejects"].name])
    assert rejects.select("row", "reason", "raw", "byte_offset").rows() == [
        (1, "unparsable_number", "2,C2,2024-01-02,x,b", 67), (3, "wrong_field_count", "broken", 110)
    ]  # fmt: skip


def test_rows_stand_in_their_customers_slot(tmp_path: Path) -> None:
    _, (result,), (folder,) = run(tmp_path, spec())
    path = folder / result.files["rows"].name
    for slot in range(SLOTS):
        frame = read_frame([path], slot, slot + 1)
        if frame.height:
            assert set(slots_of(hash_text(frame["customer_id"])).tolist()) == {slot}
    assert read_frame([path]).height == 4


def test_a_second_attempt_gives_the_first_ones_output(tmp_path: Path) -> None:
    (ref,), (first,), (folder,) = run(tmp_path, spec())
    assert process_partition(ref, spec(), folder) == first


def test_another_version_of_a_library_is_refused(tmp_path: Path) -> None:
    other = Spec(Dialect(), spec().contract, (), BUILT_IN, MetricSettings(), libraries=("0.0", "0.0"))
    with pytest.raises(EngineError, match=r"(?s)other library versions than the driver.*0\.0, 0\.0"):
        process_partition(PartitionRef(tuple(segments_of(tmp_path))), other, tmp_path / "map")


def late(
    folder: Path, spec: Spec, block: int, hashes: Callable[[pl.DataFrame], pl.DataFrame] | None = None
) -> tuple[dict[str, Any], list[int]]:
    """Map and reduce without keyed rules; returns the manifest and the places of the rows rejected late."""
    refs, results, folders = run(folder, spec, block)
    layout = build_layout(refs, results, folders)
    layout.save(folder / "layout.json")
    target = folder / "reduce"
    manifest = reduce_bucket(ReduceTask(0, SLOTS, (), target), spec, folder / "layout.json")
    if manifest["late"] is None:
        return manifest, []
    named = read_frame([target / manifest["late"]]).sort("part", "seq")
    return manifest, [
        int(layout.positions(part, pl.Series([seq]))[0]) for part, seq in named.select("part", "seq").rows()
    ]


@pytest.mark.parametrize("block", [1, 40, 1 << 20])
def test_the_first_of_equal_rows_is_kept(tmp_path: Path, block: int) -> None:
    manifest, places = late(tmp_path, spec(DUPLICATE), block)
    assert places == [4]
    assert (manifest["lines"], manifest["orders"], manifest["customers"]) == (3, 3, 2)
    assert (manifest["late_first"], manifest["late_affected"]) == ({"duplicate": 1}, {"duplicate": 1})
    assert (manifest["first_day"], manifest["last_day"]) == ("2024-01-01", "2024-03-01")


def test_rows_whose_first_hash_collides_are_not_taken_for_equal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = pl.DataFrame.hash_rows

    def colliding(frame: pl.DataFrame, seed: int = 0, *more: Any) -> pl.Series:
        hashes = whole(frame, seed, *more)
        return hashes if seed else pl.repeat(7, frame.height, dtype=pl.UInt64, eager=True)

    monkeypatch.setattr(pl.DataFrame, "hash_rows", colliding)
    _, places = late(tmp_path, spec(DUPLICATE), 40)
    assert places == [4]


def test_units() -> None:
    values = pl.Series([Decimal("1.50"), None, Decimal("-0.01")], dtype=pl.Decimal(38, 2))
    assert to_units(values).to_list() == [150, None, -1]
    assert to_units(values).dtype == pl.Int64
    assert to_units(pl.Series(["a"])).to_list() == ["a"]


def columns(items: Sequence[Any]) -> list[str]:
    return [item.name for item in items]


def test_what_a_spec_keeps() -> None:
    assert spec().kept_columns == ("customer_id", "order_id", "order_date", "amount")
    assert spec(REPEATED).kept_columns == ("customer_id", "order_date", "amount")
    assert columns(spec(DUPLICATE, REPEATED).keyed_rules) == ["repeated"]
    assert columns(spec(DUPLICATE, REPEATED).global_rules) == ["duplicate", "repeated"]
    assert spec(DUPLICATE).drops_repeated_rows


def test_a_fingerprint_changes_with_what_decides() -> None:
    one = spec()
    assert one.fingerprint == spec().fingerprint
    others = [
        spec(DUPLICATE),
        spec({"rule": "range", "column": "amount", "min": 1}),
        spec({"rule": "range", "column": "amount", "min": 2}),
    ]
    assert len({item.map_fingerprint for item in [one, *others]}) == 4
    churn = Spec(one.dialect, one.contract, one.rules, one.metrics, MetricSettings(churn_days=1))
    assert churn.map_fingerprint == one.map_fingerprint
    assert churn.fingerprint != one.fingerprint


PACKED = {"orders.csv.gz": gzip.compress(orders_csv(20))}
PLAIN = {f"orders-{i}.csv": orders_csv(10, first=10 * i) for i in range(2)}
TOO_MANY = [(PACKED, "gz", "split the file"), (PLAIN, "1 more", "lower --block-size")]


@pytest.mark.parametrize(("files", "named", "remedy"), TOO_MANY, ids=["one compressed file", "small files together"])
def test_more_rows_than_can_be_numbered_are_refused(
    files: dict[str, bytes], named: str, remedy: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bound itself is what 32 bits can count."""
    assert pl.select(pl.UInt32.max()).item() == map_stage.MOST_ROWS
    (tmp_path / "in").mkdir()
    for name, data in files.items():
        (tmp_path / "in" / name).write_bytes(data)
    monkeypatch.setattr(map_stage, "MOST_ROWS", 19)
    with pytest.raises(
        InputError, match=rf"(?s)more rows than can be numbered\n.*{named}.*20 rows or more.*19 rows.*{remedy}"
    ):
        whole_run(tmp_path / "in", tmp_path)
    assert not (tmp_path / "out").exists()
    monkeypatch.setattr(map_stage, "MOST_ROWS", 20)
    assert whole_run(tmp_path / "in", tmp_path).summary.rows.read == 20
