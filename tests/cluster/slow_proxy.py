"""A proxy that is a long and narrow line: what goes through it comes late, and so much a second."""

import queue
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from tests.fault_log import fault

_CHUNK = 4096
_LINE = 64
"""Chunks on their way in one direction of one connection; the sender waits then."""


class Line:
    """One direction, shared by all connections.

    Parameters
    ----------
    seconds : float
        How late everything comes.
    rate : float
        Bytes a second.
    """

    def __init__(self, seconds: float, rate: float) -> None:
        self._seconds, self._rate = seconds, rate
        self._lock, self._free = threading.Lock(), 0.0
        self.carried = 0
        """Bytes."""

    def arrival(self, size: int) -> float:
        """Say when what is sent now is there."""
        with self._lock:
            self.carried += size
            self._free = max(self._free, time.monotonic()) + size / self._rate
            return self._free + self._seconds


class SlowProxy:
    """Forwards connections.

    Parameters
    ----------
    server : tuple of str and int
    seconds : float
        How late everything comes, each way.
    rate : float
        Bytes a second, each way.
    """

    def __init__(self, server: tuple[str, int], seconds: float, rate: float) -> None:
        self._server = server
        self.there, self.back = Line(seconds, rate), Line(seconds, rate)
        self._sockets: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.address = f"tcp://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        for one in (self._listener, *self._sockets):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
                server = socket.create_connection(self._server)
            except OSError:
                return
            self._sockets += [client, server]
            for source, target, line in ((client, server, self.there), (server, client, self.back)):
                coming: queue.Queue[tuple[float, bytes]] = queue.Queue(_LINE)
                threading.Thread(target=_take, args=(source, coming, line), daemon=True).start()
                threading.Thread(target=_bring, args=(target, coming), daemon=True).start()


def _take(source: socket.socket, coming: "queue.Queue[tuple[float, bytes]]", line: Line) -> None:
    data = b"nothing yet"
    while data:
        try:
            data = source.recv(_CHUNK)
        except OSError:
            data = b""
        coming.put((line.arrival(len(data)), data))


def _bring(target: socket.socket, coming: "queue.Queue[tuple[float, bytes]]") -> None:
    data = b"nothing yet"
    while data:
        at, data = coming.get()
        time.sleep(max(0.0, at - time.monotonic()))
        with suppress(OSError):
            if data:
                target.sendall(data)
            else:
                target.shutdown(socket.SHUT_WR)


@contextmanager
def slow_proxy(address: str, seconds: float, rate: float) -> Iterator[SlowProxy]:
    """Run the proxy in front of a ``tcp://`` address; see :class:`SlowProxy`."""
    host, _, port = address.removeprefix("tcp://").rpartition(":")
    proxy = SlowProxy((host, int(port)), seconds, rate)
    fault("slow line", f"{seconds:g} s late, {rate * 8 / 1e6:g} Mbit/s", "scheduler")
    try:
        yield proxy
    finally:
        proxy.close()
