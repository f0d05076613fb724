"""Take customers out of the target that a text after ``--to`` means."""

from collections.abc import Sequence

from daskae.errors import SettingsError
from daskae.load.failures import mask_secrets
from daskae.load.purged import CanPurge, Purged
from daskae.load.targets import open_sink


def purge_target(url: str, customers: Sequence[str], *, dry_run: bool = False, timeout: float = 30.0) -> Purged:
    """Take the rows of customers out of a target.

    Parameters
    ----------
    url : str
        As it is given to ``--to``.
    customers : sequence of str
        Their ids.
    dry_run : bool, default False
        Count only.
    timeout : float, default 30
        Seconds to wait for others who hold the target.

    Raises
    ------
    SettingsError, LoadError, TargetBusyError
    """
    sink = open_sink(url, timeout)
    if not isinstance(sink, CanPurge):
        raise SettingsError("customers cannot be taken out of this target", "--to", mask_secrets(url))
    return sink.purge(customers, dry_run)
