"""A MariaDB server of the tests' own, from the programs of the system's package: no service, gone at the end."""

import getpass
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pymysql

from tests.fault_log import fault

from .server import free_port, other_user

_SETTINGS = {
    "bind-address": "127.0.0.1",
    "character-set-server": "latin1",  # what is stored must not hang on it
    "innodb-buffer-pool-size": "64M",
    "innodb-flush-log-at-trx-commit": "2",  # what is committed outlives the server, though not the machine
    "innodb-log-file-size": "32M",
    "performance-schema": "OFF",
}
_ROOM = 1 << 30
_USER = "daskae"
_PASSWORD = "sesame"


def why_not() -> str:
    """Say why there can be no server; nothing when there can."""
    missing = [name for name in ("mariadbd", "mariadb-install-db") if _program(name) is None]
    return f"there is no {' and no '.join(missing)}: apt-get install mariadb-server" if missing else ""


class MariadbServer:
    """A server on a free port of the loopback address, that can be killed and started again on the same data."""

    def __init__(self, folder: Path) -> None:
        temporary = folder / "temporary"
        temporary.mkdir()
        self._folder, self._who = folder, other_user(folder, temporary)
        name = pwd.getpwuid(self._who["user"]).pw_name if self._who else getpass.getuser()
        make = [str(_program("mariadb-install-db")), "--no-defaults", f"--datadir={folder / 'data'}", f"--user={name}"]
        make += ["--auth-root-authentication-method=normal", "--skip-test-db", "--skip-name-resolve"]
        subprocess.run(make, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/", **self._who)
        (folder / "first.sql").write_text(
            f"CREATE USER IF NOT EXISTS {_USER}@'127.0.0.1' IDENTIFIED BY '{_PASSWORD}';\n"
            f"GRANT ALL ON *.* TO {_USER}@'127.0.0.1' WITH GRANT OPTION;\n"
        )
        self._port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Its URL, without a database's name."""
        return f"mariadb://{_USER}:{_PASSWORD}@127.0.0.1:{self._port}"

    @property
    def address(self) -> tuple[str, int]:
        return "127.0.0.1", self._port

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start it, after a crash too, and wait until it answers."""
        folder = self._folder
        serve = [str(_program("mariadbd")), "--no-defaults", f"--datadir={folder / 'data'}", f"--port={self._port}"]
        serve += [
            f"--socket={folder / 'socket'}",
            f"--pid-file={folder / 'pid'}",
            # Of its own: a server that starts removes all temporary tables it finds, and those of others are in use.
            f"--tmpdir={folder / 'temporary'}",
            f"--init-file={folder / 'first.sql'}",
        ]
        serve += ["--skip-name-resolve", *(f"--{name}={value}" for name, value in _SETTINGS.items())]
        self._process = subprocess.Popen(serve, stderr=subprocess.DEVNULL, cwd="/", **self._who)
        self.wait()

    def wait(self) -> None:
        """Wait until it answers."""
        assert self._process is not None
        _await(self._port, self._process)

    def kill(self, where: str) -> None:
        """Kill it at once, by SIGKILL."""
        assert self._process is not None
        self._process.kill()
        self._process.wait(120)
        fault("kill", where, "server", "mariadb")

    def stop(self) -> None:
        """Stop it, if it runs."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            self._process.wait(120)


@contextmanager
def mariadb_server() -> Iterator[MariadbServer]:
    """Run a server, whose data is in a folder of its own."""
    folder = Path(tempfile.mkdtemp(prefix="daskae-mariadb-", dir=_place()))
    server = None
    try:
        server = MariadbServer(folder)
        server.start()
        yield server
    finally:
        if server is not None:
            server.stop()
        shutil.rmtree(folder, ignore_errors=True)


def _place() -> str:
    """Choose memory where there is enough of it: every table made or dropped waits for the disk several times."""
    memory = Path("/dev/shm")
    return str(memory) if memory.is_dir() and shutil.disk_usage(memory).free > _ROOM else "/var/tmp"


def _program(name: str) -> str | None:
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")


def _await(port: int, process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + 120
    while True:
        try:
            pymysql.connect(host="127.0.0.1", port=port, user=_USER, password=_PASSWORD, connect_timeout=5).close()
        except pymysql.OperationalError:
            if process.poll() is not None or time.monotonic() > deadline:
                raise
            time.sleep(0.05)
        else:
            return
