import json
from collections.abc import Callable

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from daskae.sketches.distinct import KEPT_HASHES, RELATIVE_ERROR, DistinctSketch

TEXTS = st.lists(st.none() | st.text(max_size=4), max_size=30)


def sketch(values: list[str | None]) -> DistinctSketch:
    return DistinctSketch.of(pl.Series(values, dtype=pl.String))


@given(TEXTS, TEXTS)
def test_a_sketch_is_that_of_the_set(a: list[str | None], b: list[str | None]) -> None:
    both = sketch(a).merge(sketch(b))
    assert both == sketch(b).merge(sketch(a)) == sketch([*reversed(b), *a])
    assert both.merge(sketch(a)) == both
    assert both.estimate == len({*a, *b} - {None})
    assert both.is_exact
    assert DistinctSketch.from_json(json.loads(json.dumps(both.to_json()))) == both


@given(st.integers(0, 9_000), st.integers(0, 9_000))
def test_large_parts_merge_to_the_whole_whatever_they_share(cut: int, overlap: int) -> None:
    values = pl.int_range(9_000, eager=True).cast(pl.String)
    whole = DistinctSketch.of(values)
    assert DistinctSketch.of(values.head(cut + overlap)).merge(DistinctSketch.of(values.slice(cut))) == whole


def test_exact_up_to_the_stated_number() -> None:
    last_exact = DistinctSketch.of(pl.int_range(KEPT_HASHES - 1, eager=True))
    assert (last_exact.is_exact, last_exact.estimate) == (True, KEPT_HASHES - 1)
    assert not DistinctSketch.of(pl.int_range(KEPT_HASHES, eager=True)).is_exact


FORMS: dict[str, Callable[[int], str]] = {
    "numbers": str,
    "padded": lambda i: f"{i:08d}",
    "steps": lambda i: str(1024 * i),
    "long": lambda i: f"ORDER-2024-{i:010d}-EU",
    "hex": lambda i: f"{i * 2654435761 % 2**32:08x}",
    "mail": lambda i: f"customer.{i}@example.com",
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("number", [5_000, 30_000, 200_000])
def test_estimates_keep_to_the_stated_error(form: str, number: int) -> None:
    found = DistinctSketch.of(pl.Series([FORMS[form](i) for i in range(number)]))
    assert not found.is_exact
    assert abs(found.estimate / number - 1) < 3 * RELATIVE_ERROR
