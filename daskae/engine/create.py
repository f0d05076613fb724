"""From a name to an engine, importing Dask only where it is used."""

from daskae.config import ClusterSettings
from daskae.engine.base import INLINE, LOCAL, Engine
from daskae.errors import SettingsError


def create_engine(
    name: str, settings: ClusterSettings, workers: int | None = None, memory_limit: int | None = None
) -> Engine:
    """Make the engine of a name: ``inline``, ``local``, ``tcp://…``, ``tls://…`` or a scheduler file.

    Raises
    ------
    SettingsError
        If the name stands for none.
    """
    if name == INLINE:
        from daskae.engine.inline import InlineEngine

        return InlineEngine(workers)
    if name == LOCAL or name.startswith(("tcp://", "tls://", "ucx://", "ws://", "wss://")) or name.endswith(".json"):
        from daskae.engine.dask import DaskEngine

        return DaskEngine(name, settings, workers, memory_limit)
    raise SettingsError(
        "unknown cluster", "--cluster", name, "auto, inline, local, tcp://…, tls://…, a scheduler FILE.json"
    )
