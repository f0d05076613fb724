"""Bytes, seconds and money as people write and read them."""

import re
from decimal import Context, Decimal

_SUFFIXES = {
    "": 1,
    "b": 1,
    "kb": 10**3,
    "mb": 10**6,
    "gb": 10**9,
    "tb": 10**12,
    "kib": 2**10,
    "mib": 2**20,
    "gib": 2**30,
    "tib": 2**40,
}
_EXACT = Context(prec=100)
"""Sums are integers of 128 bits, 39 digits; Python's own 28 would round them."""
_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([a-z]*)\s*", re.IGNORECASE)

_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*([a-z]*)")
_CLOCK = re.compile(r"(?:(\d+)-)?(\d{1,3}):(\d{2}):(\d{2})")
_SECONDS = {
    **dict.fromkeys(("", "s", "sec", "second", "seconds"), 1),
    **dict.fromkeys(("ms", "millisecond", "milliseconds"), 0.001),
    **dict.fromkeys(("m", "min", "minute", "minutes"), 60),
    **dict.fromkeys(("h", "hour", "hours"), 3600),
    **dict.fromkeys(("d", "day", "days"), 86_400),
}


def parse_bytes(text: str | int) -> int:
    """Read a size such as ``64MiB``, ``2GB`` or ``1048576``.

    Raises
    ------
    ValueError
        If it is neither a whole number nor a text of a number with a known suffix, or is not positive.
    """
    if isinstance(text, int) and not isinstance(text, bool):
        value = text
    else:
        if not isinstance(text, str):
            raise ValueError(f"{text!r} is not a size; write it like 64MiB, 2GB or 1048576")
        match = _SIZE.fullmatch(text)
        if match is None or match[2].lower() not in _SUFFIXES:
            raise ValueError(f"{text!r} is not a size; write it like 64MiB, 2GB or 1048576")
        value = int(Decimal(match[1]) * _SUFFIXES[match[2].lower()])
    if value <= 0:
        raise ValueError(f"a size must be positive, got {text!r}")
    return value


def parse_seconds(text: str | float) -> float:
    """Read a duration such as ``90``, ``5 minutes``, ``2h`` or Slurm's ``1-02:03:04``.

    Raises
    ------
    ValueError
        If it is not a number with a known unit, or is negative.
    """
    if isinstance(text, int | float) and not isinstance(text, bool) and text >= 0:
        return float(text)
    plain = str(text).strip().lower()
    clock = _CLOCK.fullmatch(plain)
    if clock is not None:
        days, hours, minutes, seconds = (int(part or 0) for part in clock.groups())
        return float(((days * 24 + hours) * 60 + minutes) * 60 + seconds)
    match = _DURATION.fullmatch(plain)
    if match is None or match[2] not in _SECONDS:
        raise ValueError(f"{text!r} is not a duration; write it like 90s, 5 minutes, 2h or 01:30:00")
    return float(match[1]) * _SECONDS[match[2]]


def format_bytes(value: float) -> str:
    """Write a number of bytes with a binary suffix: ``64.0 MiB``."""
    size = float(value)
    for suffix in ("B", "KiB", "MiB", "GiB"):
        if round(size, 0 if suffix == "B" else 1) < 1024:
            return f"{size:.0f} B" if suffix == "B" else f"{size:.1f} {suffix}"
        size /= 1024
    return f"{size:.1f} TiB"


def format_seconds(value: float) -> str:
    """Write a duration: ``0.42 s``, ``12.3 s``, ``4 min 05 s``, ``2 h 03 min``."""
    if round(value, 2) < 10:
        return f"{value:.2f} s"
    if round(value, 1) < 60:
        return f"{value:.1f} s"
    minutes, seconds = divmod(round(value), 60)
    if minutes < 60:
        return f"{minutes} min {seconds:02d} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min"


def format_count(value: int) -> str:
    """Write a count with thousands separated: ``1,234,567``."""
    return f"{value:,}"


def units_to_decimal(units: int, scale: int) -> Decimal:
    """Turn an integer of 10**-scale units into a decimal: ``units_to_decimal(12345, 2) == Decimal("123.45")``."""
    return Decimal(units).scaleb(-scale, _EXACT)


def format_decimal(value: Decimal) -> str:
    """Write a decimal plainly, without exponent and without zeros that say nothing: ``8911407.904``."""
    text = f"{value:f}"
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return "0" if text == "-0" else text
