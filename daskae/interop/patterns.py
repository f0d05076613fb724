r"""Python's regular expressions in the words of the engine that runs here, which is Rust's.

Most are the same in both. What has the same meaning in other letters is rewritten; what has another meaning there, or
no equal, is refused. What is passed on by mistake the engine itself refuses when the rule is built.
One difference is left as it is: ``$`` is the very end here, where Python also stops before a newline at the end.
"""

import re
import warnings

from daskae.interop.records import NotExpressibleError

_FLAGS = {re.IGNORECASE: "i", re.MULTILINE: "m", re.DOTALL: "s"}
_TOKEN = re.compile(r"\\.|\[\^?\]?|\{,\d+\}|[*+?}]\+|\(\?[aimsuLx]*x|\(\?[=!<P(>#]?.?|.", re.DOTALL)
_SAME_ESCAPES = frozenset("AbBdDsSwWafnrtvxuU")
_SPECIAL = frozenset(r".^$*+?{}[]()|\&~#-")


def escaped(text: str) -> str:
    """Write a text so that it matches itself."""
    return "".join("\\" + letter if letter in _SPECIAL else letter for letter in text)


def rust_pattern(pattern: "str | re.Pattern[str]") -> str:
    """Rewrite one of Python's patterns.

    Raises
    ------
    NotExpressibleError
        If it is no valid pattern, or has no equal.
    """
    flags = pattern.flags & ~re.UNICODE if isinstance(pattern, re.Pattern) else 0
    text = pattern.pattern if isinstance(pattern, re.Pattern) else pattern
    try:
        with warnings.catch_warnings():  # that a set may once mean another thing in Python
            warnings.simplefilter("ignore", FutureWarning)
            re.compile(text)
    except (re.error, TypeError, OverflowError, RecursionError) as error:
        raise NotExpressibleError(f"not a valid pattern: {error}") from None
    letters = "".join(letter for flag, letter in _FLAGS.items() if flags & flag)
    if flags & ~(re.IGNORECASE | re.MULTILINE | re.DOTALL):
        raise NotExpressibleError("the pattern has a flag that is not known here")
    return (f"(?{letters})" if letters else "") + _rewritten(text)


def _rewritten(text: str) -> str:
    parts: list[str] = []
    position = 0
    while position < len(text):
        found = _TOKEN.match(text, position)
        assert found is not None  # the last alternative takes any letter
        token = found.group()
        if token.startswith("["):
            part, position = _character_class(text, found.end(), token)
            parts.append(part)
            continue
        parts.append(_outside_class(token))
        # Of a group only the opening is a token; its content is read on its own.
        position = position + len(token) if not token.startswith("(?") else position + 2
    return "".join(parts)


def _outside_class(token: str) -> str:
    if token.startswith("\\"):
        return _escape(token[1])
    if token.startswith("{,"):
        return "{0" + token[1:]
    if len(token) == 2 and token[1] == "+" and token[0] in "*+?}":
        raise NotExpressibleError("possessive repetition is not known to the engine here")
    if token.startswith("(?"):
        return _group(token)
    return token


def _group(token: str) -> str:
    if token.endswith("x") and token[2:].isalpha() and not token.startswith("(?P"):
        raise NotExpressibleError("a pattern in verbose form has another meaning to the engine here")
    if token.startswith(("(?=", "(?!", "(?<=", "(?<!")):
        raise NotExpressibleError("look-around is not known to the engine here")
    if token.startswith(("(?P=", "(?(")):
        raise NotExpressibleError("a reference to a group is not known to the engine here")
    if token.startswith("(?>"):
        raise NotExpressibleError("an atomic group is not known to the engine here")
    if token.startswith("(?#"):
        raise NotExpressibleError("a comment in a pattern is not known to the engine here")
    return "(?"


def _escape(letter: str) -> str:
    """Write an escaped letter outside of a character class."""
    if letter == "Z":
        return r"\z"
    if letter in _SAME_ESCAPES:
        return "\\" + letter
    if letter in "123456789":
        raise NotExpressibleError("a reference to a group is not known to the engine here")
    if letter.isascii() and letter.isalnum():
        raise NotExpressibleError(f"the escape \\{letter} is not known to the engine here")
    return escaped(letter)


def _character_class(text: str, start: int, opening: str) -> tuple[str, int]:
    """Write one character class, from after its opening; a set within a set and its operators are letters in Python."""
    parts = ["[^" if "^" in opening else "["]
    position = start
    if opening.endswith("]"):
        parts.append(r"\]")
        position = _with_range(text, position, parts)
    while text[position] != "]":
        position = _class_letter(text, position, parts)
        position = _with_range(text, position, parts)
    return "".join([*parts, "]"]), position + 1


def _with_range(text: str, position: int, parts: list[str]) -> int:
    """Write the rest of a range, if the letter before begins one."""
    if text[position] != "-" or text[position + 1] == "]":
        return position
    parts.append("-")
    return _class_letter(text, position + 1, parts)


def _class_letter(text: str, position: int, parts: list[str]) -> int:
    letter = text[position]
    if letter == "\\":
        after = text[position + 1]
        parts.append(r"\x08" if after == "b" else _escape(after))
        return position + 2
    parts.append(escaped(letter))
    return position + 1
