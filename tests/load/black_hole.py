"""A network that lets nothing through and tells nobody, and a server that takes everything and says nothing."""

import os
import re
import shutil
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Literal, Protocol

import psutil

from tests.fault_log import fault, strike
from tests.support import descendants

Way = Literal["both", "answers"]


def why_not() -> str:
    """Say why there can be no black hole here, empty if there can."""
    if os.geteuid() != 0:
        return "rules for packets want root"
    if shutil.which("nft") is None:
        return "no nft; apt-get install nftables"
    _sweep()
    hole = BlackHole(1)
    tried = hole.rules(f"add table inet {hole.table}\ndelete table inet {hole.table}", check=False)
    return f"nft: {tried.stderr.decode().strip()}" if tried.returncode else ""


def _sweep() -> None:
    """Close black holes of tests that were killed."""
    for line in subprocess.run(["nft", "list", "tables"], capture_output=True, text=True).stdout.splitlines():
        if (found := re.fullmatch(r"table inet (daskae_(\d+)_\d+)", line)) and not psutil.pid_exists(int(found[2])):
            subprocess.run(["nft", "delete", "table", "inet", found[1]], check=False, capture_output=True)


class Silence(Protocol):
    """What can come between a client and its server."""

    def open(self, way: Way = "both") -> None: ...

    def close(self) -> None: ...


class BlackHole:
    """Swallows the packets of one port of the loopback interface while it is open.

    Both sides' kernels believe that the other is there, and wait for it.

    Parameters
    ----------
    port : int
        Of a server.
    """

    def __init__(self, port: int) -> None:
        self._port = port
        self.table = f"daskae_{os.getpid()}_{port}"

    def open(self, way: Way = "both") -> None:
        """Swallow from now on, the server's answers only or what is sent to it, too."""
        chain = f"inet {self.table} incoming"
        there = f"add rule {chain} iifname lo tcp dport {self._port} counter drop\n" if way == "both" else ""
        self.rules(
            f"add table inet {self.table}\n"
            f"add chain {chain} {{ type filter hook input priority 0; }}\n"
            f"{there}add rule {chain} iifname lo tcp sport {self._port} counter drop\n"
        )
        fault("silence", "every packet is dropped" if way == "both" else "every answer is dropped", "server")

    def close(self) -> None:
        """Let everything through again."""
        self.rules(f"delete table inet {self.table}", check=False)

    def rules(self, text: str, check: bool = True) -> "subprocess.CompletedProcess[bytes]":
        return subprocess.run(["nft", "-f", "-"], input=text.encode(), check=check, capture_output=True)


@contextmanager
def black_hole(port: int) -> Iterator[BlackHole]:
    """A black hole that is closed in any case at the end."""
    hole = BlackHole(port)
    try:
        yield hole
    finally:
        hole.close()


class Stopped:
    """A server all of whose processes stand still while it is open: its kernel takes connections and bytes for it.

    Parameters
    ----------
    pid : int
        Its first process.
    """

    def __init__(self, pid: int) -> None:
        self._server = psutil.Process(pid)
        self._stopped: list[psutil.Process] = []

    def open(self, way: Way = "both") -> None:
        """Stop them."""
        # The first one first, so that it makes no others.
        for process in (self._server, *descendants(self._server.pid)):
            strike(process.pid, signal.SIGSTOP, "all processes of a server", "server")
            self._stopped.append(process)

    def close(self) -> None:
        """Let them go on."""
        for process in self._stopped:
            with suppress(psutil.NoSuchProcess):
                process.resume()
        self._stopped.clear()


class SilentProxy:
    """Forwards bytes both ways until it is told to be silent; then it takes what comes, and new connections too.

    Parameters
    ----------
    server : tuple of str and int
        Where the database is.
    """

    def __init__(self, server: tuple[str, int]) -> None:
        self._server, self._sockets = server, list[socket.socket]()
        self._silent = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def open(self, way: Way = "both") -> None:
        """Be silent from now on."""
        self._silent.set()
        fault("silence", "a proxy takes everything and says nothing", "server")

    def close(self) -> None:
        """Forward new connections again; those that there were are cut."""
        for one in self._sockets:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        self._silent.clear()

    def end(self) -> None:
        self.close()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(30)
        for one in (self._listener, *self._sockets):
            one.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
                server = socket.create_connection(self._server)
            except OSError:
                return
            self._sockets += [client, server]
            for source, target in ((client, server), (server, client)):
                self._threads.append(threading.Thread(target=self._forward, args=(source, target), daemon=True))
                self._threads[-1].start()

    def _forward(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(1 << 16):
                if not self._silent.is_set():
                    target.sendall(data)
        if not self._silent.is_set():
            with suppress(OSError):
                target.shutdown(socket.SHUT_RDWR)


@contextmanager
def silent_proxy(server: tuple[str, int]) -> Iterator[SilentProxy]:
    """Run the proxy; see :class:`SilentProxy`."""
    proxy = SilentProxy(server)
    try:
        yield proxy
    finally:
        proxy.end()
