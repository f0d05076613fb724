"""Stored notes that tell whether they are as they were written: JSON, with a checksum of it."""

import json
from typing import Any

from daskae.hashing import digest_bytes


def seal(data: Any) -> str:
    """Return plain data as text with its checksum."""
    body = json.dumps(data, separators=(",", ":"))
    return json.dumps({"checksum": digest_bytes(body.encode()), "body": body})


def unseal(text: str) -> Any:
    """Return the data that :func:`seal` was given.

    Raises
    ------
    ValueError
        If it is not, to the byte of the body, what was written.
    """
    try:
        outer = json.loads(text)
        body = outer["body"]
        if digest_bytes(body.encode()) != outer["checksum"]:
            raise ValueError("its checksum is another one")
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError("it has no checksum") from error
    return json.loads(body)
