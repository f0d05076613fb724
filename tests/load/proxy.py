"""A proxy in front of a database that cuts connections: when it is told to, or at the commit that publishes."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from tests.fault_log import fault

_LEDGER = b"_daskae_loads"


class CuttingProxy:
    """Forwards bytes both ways.

    Parameters
    ----------
    server : tuple of str and int
        Where the database is.
    deliver : bool, optional
        Cut the first connection that commits after writing the ledger, before the server gets the commit or after it
        has answered. No connection is cut at its commit unless given.
    then : callable, optional
        Called at that moment, before the client sees anything.
    name : str, optional
        Of the kind of database.
    """

    def __init__(
        self,
        server: tuple[str, int],
        deliver: bool | None = None,
        then: Callable[[], None] | None = None,
        name: str = "",
    ) -> None:
        self.cuts = 0
        self._name = name
        self._then = then
        self._sockets: list[socket.socket] = []
        self._answered = threading.Event()
        self._server, self._deliver = server, deliver
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def close(self) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(30)

    def cut(self, where: str) -> None:
        """Cut all connections there are."""
        there = len([one for one in self._sockets if one.fileno() != -1]) // 2
        self.end()
        self.cuts += 1
        fault("cut connection", where, "publisher", self._name, count=there)

    def end(self) -> None:
        """End all connections there are, as the test is over."""
        for one in self._sockets:
            _shut(one)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(self._server)
            except OSError:  # as a server that is down
                client.close()
                continue
            self._sockets += [client, server]
            cut = threading.Event()
            for target, arguments in ((self._forward, (client, server, cut)), (self._back, (server, client, cut))):
                self._threads.append(threading.Thread(target=target, args=arguments, daemon=True))
                self._threads[-1].start()

    def _forward(self, client: socket.socket, server: socket.socket, cut: threading.Event) -> None:
        written = False
        while data := _receive(client):
            written |= b"INSERT INTO" in data and _LEDGER in data
            if self._deliver is not None and written and b"COMMIT" in data and not self.cuts:
                self.cuts += 1
                cut.set()
                if self._deliver:
                    with suppress(OSError):
                        server.sendall(data)
                    assert self._answered.wait(30)
                if self._then:
                    self._then()
                # Before the client can go on, so that checks come after it.
                where = f"{'after' if self._deliver else 'before'} the server gets the commit"
                fault("cut connection", where, "publisher", self._name)
                _shut(server)
                _shut(client)
                return
            with suppress(OSError):
                server.sendall(data)
        _shut(server)

    def _back(self, server: socket.socket, client: socket.socket, cut: threading.Event) -> None:
        while data := _receive(server):
            if cut.is_set():
                self._answered.set()
                continue
            with suppress(OSError):
                client.sendall(data)
        _shut(client)
        server.close()
        client.close()


def _receive(source: socket.socket) -> bytes:
    try:
        return source.recv(1 << 16)
    except OSError:
        return b""


def _shut(place: socket.socket) -> None:
    with suppress(OSError):
        place.shutdown(socket.SHUT_RDWR)


@contextmanager
def cutting_proxy(
    host: str, port: int, deliver: bool | None = None, then: Callable[[], None] | None = None, name: str = ""
) -> Iterator[CuttingProxy]:
    """Run the proxy; see :class:`CuttingProxy`."""
    proxy = CuttingProxy((host, port), deliver, then, name)
    try:
        yield proxy
    finally:
        proxy.end()
        proxy.close()
