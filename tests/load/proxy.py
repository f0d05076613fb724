"""A proxy in front of a database that cuts the connection at the commit that publishes."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

_LEDGER = b"_daskae_loads"


class CuttingProxy:
    """Forwards bytes both ways; cuts the first connection that commits after writing the ledger."""

    def __init__(self, server: tuple[str, int], deliver: bool) -> None:
        self.cuts = 0
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

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.create_connection(self._server)
            cut = threading.Event()
            for target, arguments in ((self._forward, (client, server, cut)), (self._back, (server, client, cut))):
                self._threads.append(threading.Thread(target=target, args=arguments, daemon=True))
                self._threads[-1].start()

    def _forward(self, client: socket.socket, server: socket.socket, cut: threading.Event) -> None:
        written = False
        while data := _receive(client):
            written |= b"INSERT INTO" in data and _LEDGER in data
            if written and b"COMMIT" in data and not self.cuts:
                self.cuts += 1
                cut.set()
                if self._deliver:
                    with suppress(OSError):
                        server.sendall(data)
                        server.shutdown(socket.SHUT_WR)  # the server answers, then ends
                else:
                    _shut(server)
                _shut(client)
                return
            with suppress(OSError):
                server.sendall(data)
        _shut(server)

    def _back(self, server: socket.socket, client: socket.socket, cut: threading.Event) -> None:
        while data := _receive(server):
            if not cut.is_set():
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
def cutting_proxy(host: str, port: int, deliver: bool) -> Iterator[CuttingProxy]:
    """Run the proxy; ``deliver`` says whether the server still gets the commit."""
    proxy = CuttingProxy((host, port), deliver)
    try:
        yield proxy
    finally:
        proxy.close()
