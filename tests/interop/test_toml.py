import tomllib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daskae.interop.toml import toml_comment, toml_key, toml_table, toml_value

TEXTS = st.text(st.characters(exclude_categories=["Cs"]))
SCALARS = st.one_of(TEXTS, st.integers(-(2**63), 2**63 - 1), st.floats(allow_nan=False), st.booleans(), st.dates())
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3), max_leaves=6
)


@given(st.dictionaries(TEXTS, VALUES, max_size=4))
def test_what_is_written_reads_back_as_it_was(entries: dict[str, Any]) -> None:
    assert tomllib.loads(toml_table("[a]", entries)) == {"a": entries}
    assert tomllib.loads(toml_table("[[a]]", entries)) == {"a": [entries]}
    assert tomllib.loads(f"a = {toml_value(entries)}") == {"a": entries}


@given(TEXTS)
def test_any_name_is_a_key(name: str) -> None:
    assert tomllib.loads(f"[a.{toml_key(name)}]") == {"a": {name: {}}}


@given(st.text())
def test_a_comment_sets_nothing(text: str) -> None:
    assert tomllib.loads(toml_comment(text)) == {}


def test_half_letters_and_unknown_values() -> None:
    assert tomllib.loads(f"a = {toml_value(chr(0xD800))}") == {"a": "�"}
    with pytest.raises(TypeError, match="no TOML for object"):
        toml_value(object())
