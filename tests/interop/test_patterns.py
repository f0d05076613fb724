import re

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from daskae.interop.patterns import escaped, rust_pattern
from daskae.interop.records import NotExpressibleError

pytestmark = pytest.mark.filterwarnings("ignore:Possible:FutureWarning")  # Python on sets that may change in meaning


def found(pattern: str, texts: list[str]) -> list[bool]:
    """What the engine here finds."""
    return pl.Series(texts, dtype=pl.String).str.contains(pattern).to_list()


@pytest.mark.parametrize(
    ("pattern", "texts"),
    [
        (r"^\d{3}\Z", ["123", "1234", "x123"]),
        (r"[[a]", ["[", "a", "b", "]"]),
        (r"[[a]]", ["[]", "a]", "a", "]"]),
        (r"[]a]", ["]", "a", "b"]),
        (r"[^]a]", ["]", "a", "b"]),
        (r"[a&&b]+$", ["&", "a", "b", "c"]),
        (r"[+--]", ["+", ",", "-", "x"]),
        (r"[~~]", ["~", "x"]),
        (r"[--a]", ["-", "A", "1", "b", "+"]),
        (r"[]-a]", ["]", "^", "a", "-"]),
        (r"[a-]", ["a", "-", "b"]),
        (r"[\x41-\x43.-]", ["B", "D", "-", "."]),
        (r"[\]\-\\x]", ["]", "-", "\\", "x", "y"]),
        (r"^a{,2}$", ["", "a", "aa", "aaa"]),
        (r"\<b\>", ["<b>", "b"]),
        (r"\ \/\#\!\é", [" /#!é", "x"]),
        (r"(?i)ab|CD", ["AB", "cd", "xy"]),
        (r"(?i:a)b", ["Ab", "AB"]),
        (r"(?P<year>\d{4})-\d\d", ["2024-01", "24-01"]),
        (r"a.c", ["abc", "a\nc"]),
        (r"^\w+\s\S+\b", ["é x", "-"]),
        (re.compile("^ab.c", re.IGNORECASE | re.DOTALL), ["AB\nC", "abc"]),
        (re.compile("^b", re.MULTILINE), ["a\nb", "ab"]),
    ],
)
def test_a_pattern_finds_what_it_finds_in_python(pattern: str | re.Pattern[str], texts: list[str]) -> None:
    assert found(rust_pattern(pattern), texts) == [re.search(pattern, text) is not None for text in texts]


@pytest.mark.parametrize(
    ("pattern", "reason"),
    [
        (r"(?=a)b", "look-around"),
        (r"(?<!a)b", "look-around"),
        (r"(a)\1", "reference to a group"),
        (r"(?P<n>a)(?P=n)", "reference to a group"),
        (r"(a)?(?(1)b|c)", "reference to a group"),
        (r"a++", "possessive"),
        (r"(?>a)b", "atomic"),
        (r"(?#why)a", "comment"),
        (r"(?x) a b", "verbose"),
        (r"(?i:a)\N{BULLET}", "escape"),
        (r"(", "not a valid pattern"),
        (re.compile("a b", re.VERBOSE), "flag"),
        (re.compile(r"\d", re.ASCII), "flag"),
    ],
)
def test_a_pattern_without_an_equal_is_refused(pattern: str | re.Pattern[str], reason: str) -> None:
    with pytest.raises(NotExpressibleError, match=reason):
        rust_pattern(pattern)


PIECES = st.sampled_from(
    ["a", "b", "-", "[", "]", "^", "\\d", "\\Z", "\\]", "&&", "--", "~~", "(", ")", "|", "*", "+", "?", "{,2}", "{1}",
     ".", "\\<", "\\.", "[a-c]", "[^b]", "(?i)", "(?:", "#", " ", "\\b", "$"]
)  # fmt: skip


@given(st.lists(PIECES, max_size=7).map("".join), st.lists(st.text("abAB1-[]^&~ <.#{,2}", max_size=6), max_size=8))
def test_what_both_accept_means_the_same(pattern: str, texts: list[str]) -> None:
    try:
        here = found(rust_pattern(pattern), texts)
    except (NotExpressibleError, pl.exceptions.ComputeError):
        return  # said to the user, not imported
    assert here == [re.search(pattern, text) is not None for text in texts]


@given(st.text(), st.lists(st.text(), max_size=5))
def test_an_escaped_text_matches_itself_only(text: str, others: list[str]) -> None:
    assert found(rf"\A{escaped(text)}\z", [text, *others]) == [True, *(other == text for other in others)]
