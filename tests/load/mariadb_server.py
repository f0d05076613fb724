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

from .server import free_port, other_user

_SETTINGS = {
    "bind-address": "127.0.0.1",
    "character-set-server": "latin1",  # what is stored must not hang on it
    "innodb-buffer-pool-size": "64M",
    "innodb-flush-log-at-trx-commit": "0",
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


@contextmanager
def mariadb_server() -> Iterator[str]:
    """Run a server on a free port of the loopback address; yield its URL, without a database's name."""
    folder = Path(tempfile.mkdtemp(prefix="daskae-mariadb-", dir=_place()))
    process = None
    try:
        who = other_user(folder)
        name = pwd.getpwuid(who["user"]).pw_name if who else getpass.getuser()
        data = folder / "data"
        make = [str(_program("mariadb-install-db")), "--no-defaults", f"--datadir={data}", f"--user={name}"]
        make += ["--auth-root-authentication-method=normal", "--skip-test-db", "--skip-name-resolve"]
        subprocess.run(make, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/", **who)
        port = free_port()
        first = folder / "first.sql"
        first.write_text(
            f"CREATE USER {_USER}@'127.0.0.1' IDENTIFIED BY '{_PASSWORD}';\n"
            f"GRANT ALL ON *.* TO {_USER}@'127.0.0.1' WITH GRANT OPTION;\n"
        )
        serve = [str(_program("mariadbd")), "--no-defaults", f"--datadir={data}", f"--port={port}"]
        serve += [f"--socket={folder / 'socket'}", f"--pid-file={folder / 'pid'}", f"--init-file={first}"]
        serve += ["--skip-name-resolve", *(f"--{name}={value}" for name, value in _SETTINGS.items())]
        process = subprocess.Popen(serve, stderr=subprocess.DEVNULL, cwd="/", **who)
        _await(port, process)
        yield f"mariadb://{_USER}:{_PASSWORD}@127.0.0.1:{port}"
    finally:
        if process is not None:
            process.send_signal(signal.SIGTERM)
            process.wait(120)
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
