"""Passwords and tokens, taken out of every text that a person or a file may see; and how a text names a customer."""

import html
import json
import re
from collections.abc import Iterable

HIDDEN = "***"

# Greedy on purpose: a password may hold any character, and hiding too much of a text does no harm.
_USER_INFO = re.compile(r"(://[^/?#@:\s]*):\S*@")
_OPTION = re.compile(r"([?&][^=&\s]*(?:pass|secret|token|key|sig)[^=&\s]*=)[^&\s]*", re.IGNORECASE)


def mask_secrets(text: str) -> str:
    """Replace what looks like a password in a URL, or in a text that quotes one, by ``***``."""
    return _OPTION.sub(r"\1***", _USER_INFO.sub(r"\1:***@", text)) if "://" in text or "=" in text else text


def name_pattern(names: Iterable[str], *, look_around: bool = True) -> re.Pattern[str]:
    """Return the pattern of texts that hold one of these names as a whole word, also as CSV, JSON or HTML spell it.

    A word ends where no letter, digit or underscore is beside it, so ``C-4`` is in ``"C-4.0"`` and not in ``C-42``.
    Without ``look_around`` the neighbours are part of the match, for libraries that do not know better.
    """
    spelt = {spelling for name in names for spelling in _spellings(name)}
    words = "|".join(map(re.escape, sorted(spelt, key=lambda text: (-len(text), text))))
    # In escaped text the letter of a line break, \n, may stand before a name.
    before, after = (r"(?:(?<!\w)|(?<=\\[nrt]))", r"(?!\w)") if look_around else (r"(?:^|\W|\\[nrt])", r"(?:\W|$)")
    return re.compile(f"{before}(?:{words}){after}")


def _spellings(name: str) -> set[str]:
    quoted = html.escape(name)
    jsons = {json.dumps(name, ensure_ascii=ascii_only)[1:-1] for ascii_only in (True, False)}
    htmls = {quoted, html.escape(name, quote=False), quoted.replace("&quot;", "&#34;").replace("&#x27;", "&#39;")}
    return {name, name.replace('"', '""'), *jsons, *htmls}
