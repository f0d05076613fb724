"""How a text names a customer."""

import polars as pl
import pytest

from daskae.masking import name_pattern


@pytest.mark.parametrize(
    ("name", "text", "found"),
    [
        ("C-4", "O1,C-4,2023", True),
        ("C-4", "O1,C-42,2023", False),
        ("C-4", "O1,XC-4,2023", False),
        ("17850", "536365,17850.0,United Kingdom", True),
        ("17850", "178501", False),
        ("17850", "a17850", False),
        ("ž", "x,ž,y", True),
        ("ž", "žž", False),
        ("a.b", "axb", False),
        ("a.b", "(a.b)", True),
        ("C1", r'{"note": "two\nC1"}', True),
        ("C1", r"x\C1", True),
        ("ž1", r'{"id": "\u017e1"}', True),
        ('A"B', '1,"A""B",2', True),
        ('A"B', r'{"id": "A\"B"}', True),
        ("A&B", "<td>A&amp;B</td>", True),
        ("A'B", "<td>A&#39;B</td>", True),
        ("C 1", "C 1", True),
        ("-1", "5-1", False),
        ("€", "€", True),
    ],
)
def test_a_name_is_a_whole_word(name: str, text: str, found: bool) -> None:
    """Python and Polars see the same."""
    assert bool(name_pattern([name]).search(text)) is found
    plain = name_pattern([name], look_around=False).pattern
    assert pl.Series([text]).str.contains(plain).to_list() == [found]


def test_only_the_name_is_replaced() -> None:
    assert name_pattern(["C1", "C10"]).sub("***", "C1,C10;C100 C1") == "***,***;C100 ***"
