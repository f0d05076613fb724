"""Look whether the target that a text after ``--to`` means still holds what was loaded into it."""

from typing import Any

from daskae.errors import SettingsError
from daskae.load.failures import mask_secrets
from daskae.load.targets import open_sink
from daskae.load.verified import CanVerify, Verified


def verify_target(url: str, timeout: float = 30.0) -> Verified:
    """Compare a target with what was noted when it was loaded; nothing is written.

    Parameters
    ----------
    url : str
        As it is given to ``--to``.
    timeout : float, default 30
        Seconds to wait for others who hold the target.

    Raises
    ------
    SettingsError, LoadError, TargetBusyError
    """
    sink = open_sink(url, timeout)
    if not isinstance(sink, CanVerify):
        raise SettingsError("this target cannot be verified", "--to", mask_secrets(url))
    return sink.verify()


def verified_document(found: Verified) -> dict[str, Any]:
    """Return what was found as plain data."""
    return {
        "schema_version": 1,
        "target": found.target,
        "is_same": not found.differences,
        "loads": found.loads,
        "compared": len(found.comparisons),
        "differences": [vars(item) for item in found.differences],
        "left_out": list(found.left_out),
    }
