"""Passwords and tokens, taken out of every text that a person or a file may see."""

import re

# Greedy on purpose: a password may hold any character, and hiding too much of a text does no harm.
_USER_INFO = re.compile(r"(://[^/?#@:\s]*):\S*@")
_OPTION = re.compile(r"([?&][^=&\s]*(?:pass|secret|token|key|sig)[^=&\s]*=)[^&\s]*", re.IGNORECASE)


def mask_secrets(text: str) -> str:
    """Replace what looks like a password in a URL, or in a text that quotes one, by ``***``."""
    return _OPTION.sub(r"\1***", _USER_INFO.sub(r"\1:***@", text)) if "://" in text or "=" in text else text
