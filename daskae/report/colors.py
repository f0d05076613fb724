"""The colours of the report, light and dark, and the arithmetic that keeps every text on them readable."""

from typing import NamedTuple

READABLE = 4.5
"""Least contrast of text, WCAG 2 level AA."""

STEPS = 12
"""Shades of the heat maps."""

Rgb = tuple[float, float, float]


class Palette(NamedTuple):
    """Named colours of one scheme; ``low`` over ``middle`` to ``high`` is the ramp of the heat maps."""

    paper: str
    card: str
    ink: str
    muted: str
    line: str
    accent: str
    faint: str
    pale: str
    signal: str
    unknown: str
    low: str
    middle: str
    high: str


LIGHT = Palette(
    paper="#fdfdfb",
    card="#f4f6f4",
    ink="#19262a",
    muted="#566468",
    line="#dde3e1",
    accent="#0b6a70",
    faint="#a9cdcb",
    pale="#8fb8b8",
    signal="#a23f1d",
    unknown="#f0f0ee",
    low="#edf5f3",
    middle="#63b3ac",
    high="#07535a",
)
DARK = Palette(
    paper="#11181a",
    card="#192224",
    ink="#e6ecec",
    muted="#9dabad",
    line="#2b3739",
    accent="#4cc0ba",
    faint="#24595b",
    pale="#3a6e70",
    signal="#f2936b",
    unknown="#161d1f",
    low="#182628",
    middle="#2f7f7c",
    high="#6fdcd2",
)


def contrast(one: str, other: str) -> float:
    """Return the WCAG 2 contrast of two colours, from 1 to 21."""
    brighter, darker = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (brighter + 0.05) / (darker + 0.05)


def heat_ramp(palette: Palette) -> list[str]:
    """Return the shades of the heat maps, from nothing to most."""
    half = STEPS // 2
    return ramp(palette.low, palette.middle, half) + ramp(palette.middle, palette.high, STEPS - half + 1)[1:]


def ramp(low: str, high: str, steps: int = STEPS) -> list[str]:
    """Return colours from `low` to `high` in steps that look equally wide (straight through OKLab)."""
    start, end = _to_oklab(_rgb(low)), _to_oklab(_rgb(high))
    shares = [step / (steps - 1) for step in range(steps)]
    return [
        _hex(_from_oklab((_mix(start[0], end[0], t), _mix(start[1], end[1], t), _mix(start[2], end[2], t))))
        for t in shares
    ]


def text_on(background: str, palette: Palette) -> str:
    """Return a colour that can be read on `background`; black or white where neither ink nor paper can."""
    choices = (palette.ink, palette.paper, "#000000", "#ffffff")
    return next(color for color in choices if contrast(color, background) >= READABLE)


def style_rules(palette: Palette) -> str:
    """Return the CSS of one scheme: its colours as variables, and the classes of the heat maps and curves."""
    variables = "".join(f"--{name}:{color};" for name, color in palette._asdict().items())
    heat = "".join(
        f".h{step}{{background:{shade};color:{text_on(shade, palette)}}}"
        for step, shade in enumerate(heat_ramp(palette))
    )
    curves = "".join(
        f".c{step}{{stroke:{shade}}}.g{step}{{stop-color:{shade}}}"
        for step, shade in enumerate(ramp(palette.pale, palette.accent))
    )
    return f":root{{{variables}}}{heat}{curves}"


def _rgb(color: str) -> Rgb:
    """Turn ``#rrggbb`` into linear light."""
    red, green, blue = (int(color[at : at + 2], 16) / 255 for at in (1, 3, 5))
    return _linear(red), _linear(green), _linear(blue)


def _hex(rgb: Rgb) -> str:
    return "#" + "".join(f"{round(255 * max(0.0, min(1.0, _gamma(part)))):02x}" for part in rgb)


def _linear(part: float) -> float:
    return part / 12.92 if part <= 0.04045 else float(((part + 0.055) / 1.055) ** 2.4)


def _gamma(part: float) -> float:
    return 12.92 * part if part <= 0.0031308 else float(1.055 * part ** (1 / 2.4) - 0.055)


def _luminance(color: str) -> float:
    red, green, blue = _rgb(color)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def _mix(start: float, end: float, share: float) -> float:
    return start + (end - start) * share


# Björn Ottosson's OKLab, https://bottosson.github.io/posts/oklab
def _to_oklab(rgb: Rgb) -> Rgb:
    red, green, blue = rgb
    long = (0.4122214708 * red + 0.5363325363 * green + 0.0514459929 * blue) ** (1 / 3)
    middle = (0.2119034982 * red + 0.6806995451 * green + 0.1073969566 * blue) ** (1 / 3)
    short = (0.0883024619 * red + 0.2817188376 * green + 0.6299787005 * blue) ** (1 / 3)
    return (
        0.2104542553 * long + 0.7936177850 * middle - 0.0040720468 * short,
        1.9779984951 * long - 2.4285922050 * middle + 0.4505937099 * short,
        0.0259040371 * long + 0.7827717662 * middle - 0.8086757660 * short,
    )


def _from_oklab(lab: Rgb) -> Rgb:
    light, green_red, blue_yellow = lab
    long = (light + 0.3963377774 * green_red + 0.2158037573 * blue_yellow) ** 3
    middle = (light - 0.1055613458 * green_red - 0.0638541728 * blue_yellow) ** 3
    short = (light - 0.0894841775 * green_red - 1.2914855480 * blue_yellow) ** 3
    return (
        4.0767416621 * long - 3.3077115913 * middle + 0.2309699292 * short,
        -1.2684380046 * long + 2.6097574011 * middle - 0.3413193965 * short,
        -0.0041960863 * long - 0.7034186147 * middle + 1.7076147010 * short,
    )
