"""Workers that come while a run is under way are looked at, too; one that does not see the files is sent away."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from distributed import WorkerPlugin

from daskae.engine.base import Emit, Needs
from daskae.engine.plugins import NEWCOMERS
from daskae.engine.probe import code_digest, look_around, token_file
from daskae.events import Warned

TOPIC = "daskae-refused"
_GOODBYE_SECONDS = 5


class Newcomers(WorkerPlugin):  # type: ignore[misc]
    """Looks around on a worker when it starts, and closes the worker where something is missing.

    Parameters
    ----------
    path, token : str
        A file that the driver has written, and what is in it.
    needs : Needs
    client_id : str
        Whose plugin it is: several drivers may share a scheduler.
    """

    def __init__(self, path: str, token: str, needs: Needs, client_id: str) -> None:
        self.name = f"{NEWCOMERS}-{client_id}"
        self._path, self._token, self._look, self._inputs = path, token, needs.look, needs.inputs
        self._code = code_digest()

    def setup(self, worker: Any) -> None:
        """Look around; called by Dask on every worker, before it gets tasks."""
        found = look_around(self._path, self._token, self._look, self._inputs)
        wrong = {key: text for key, text in found.items() if key in ("work", "input", "where")}
        if found["code"] != self._code:
            wrong["code"] = "other code of daskae than the driver"
        if wrong:
            worker.log_event(TOPIC, {"worker": str(worker.name), "host": found["host"], **wrong})
            worker.loop.add_callback(worker.close, nanny=True, reason="it does not see the files of the run")


@contextmanager
def watch_newcomers(client: Any, needs: Needs, emit: Emit) -> Iterator[None]:
    """Look at every worker that comes while the block runs, and warn of those that are sent away."""

    def warn(event: tuple[float, Any]) -> None:
        message = dict(event[1])
        what = ", ".join(f"{key}: {text}" for key, text in message.items() if key not in ("worker", "host"))
        emit(Warned(f"worker {message['worker']} on {message['host']} is sent away: {what}"))

    with token_file(needs.work_dir) as (path, token):
        client.subscribe_topic(TOPIC, warn)
        plugin = Newcomers(str(path or ""), token, needs, client.id)
        client.register_plugin(plugin)
        try:
            yield
        finally:
            # Where the scheduler is gone the plugin is, too; that may not have been noticed yet.
            with suppress(OSError, TimeoutError, ValueError, RuntimeError):
                if client.status == "running":
                    client.sync(
                        client.scheduler.unregister_worker_plugin, name=plugin.name, callback_timeout=_GOODBYE_SECONDS
                    )
