"""What a profile says about the way the input is read."""

from collections.abc import Mapping, Sequence

DELIMITERS = (";", "\t", "|", ",")


def reading_hints(columns: Sequence[str], rows: int, broken: Mapping[str, int]) -> list[str]:
    """Say which setting of ``[input]`` is likely wrong.

    A file that is cut at the wrong character has one column, whose name is the whole header line.
    """
    hints = []
    if len(columns) == 1:
        often = max(DELIMITERS, key=lambda mark: columns[0].count(mark))
        if times := columns[0].count(often):
            hints.append(
                f"there is one column, and its name holds {often!r} {times} times: is that the delimiter? "
                f"Set [input] delimiter = {often!r}"
            )
    if 100 * broken.get("invalid_encoding", 0) > rows:  # fewer are damage, not another encoding
        hints.append(
            f"{broken['invalid_encoding']:,} of {rows:,} records are not valid text in this encoding: "
            "set [input] encoding, such as 'cp1252' or 'latin-1'"
        )
    if 2 * broken.get("wrong_field_count", 0) > rows:
        hints.append("most records have another number of fields than the header: look at delimiter, quote and header")
    return hints
