"""A scheduler that runs already, by its address or its scheduler file, plain or with TLS."""

import json
import ssl
import time
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any

import dask
import distributed
from distributed.comm.core import CommClosedError
from distributed.security import Security

from daskae.config import ClusterSettings
from daskae.errors import SettingsError, WorkersUnavailableError
from daskae.units import parse_seconds

_TLS_KEYS = ("ca-file", "client.cert", "client.key")


def open_client(target: str, settings: ClusterSettings) -> Any:
    """Connect to a scheduler.

    Raises
    ------
    SettingsError
        If certificates are needed and missing, or cannot be read.
    WorkersUnavailableError
        If no scheduler answers, or it refuses.
    """
    path = Path(target)
    is_file = target.endswith(".json")
    if is_file:
        _wait_for_file(path, settings.start_timeout)
    options: dict[str, Any] = {"scheduler_file": target} if is_file else {"address": target}
    is_tls = (_address_in(path) if is_file else target).startswith("tls://")
    if is_tls:
        options["security"] = security_of(target, settings)
    try:
        with warnings.catch_warnings():
            # Other versions are found by the probe, which says what to do.
            warnings.simplefilter("ignore", distributed.versions.VersionMismatchWarning)
            return distributed.Client(timeout=settings.start_timeout, **options)
    except (OSError, TimeoutError, TypeError, ValueError, AssertionError) as error:
        raise _unreachable(target, is_tls, error) from error


def _wait_for_file(path: Path, timeout: str) -> None:
    """A scheduler that was submitted together with this command may still have to write its file."""
    end = time.monotonic() + parse_seconds(timeout)
    while not _address_in(path):
        if time.monotonic() > end:
            raise WorkersUnavailableError(
                "no scheduler answers", str(path), "no such scheduler file", f"one within {timeout}",
                "start the scheduler with --scheduler-file, in a folder that both see",
            )  # fmt: skip
        time.sleep(0.2)


def _address_in(path: Path) -> str:
    """Return the address that a scheduler file holds, empty where it is none."""
    with suppress(OSError, ValueError, AttributeError):
        return str(json.loads(path.read_text()).get("address", ""))
    return ""


def security_of(target: str, settings: ClusterSettings) -> Security:
    """Return the certificates of ``[cluster.tls]`` or, without it, those of Dask's own configuration.

    Raises
    ------
    SettingsError
    """
    tls = settings.tls
    if tls.ca_file is None:
        missing = [key for key in _TLS_KEYS if not dask.config.get(f"distributed.comm.tls.{key}", None)]
        if missing:
            raise SettingsError(
                "a tls:// address needs certificates", target, "no [cluster.tls]",
                "ca_file, cert_file and key_file, as PEM", "ask whoever runs the scheduler for them",
            )  # fmt: skip
        return Security(require_encryption=True)
    for name in ("ca_file", "cert_file", "key_file"):
        _require_readable(f"cluster.tls.{name}", getattr(tls, name))
    security = Security(
        tls_ca_file=str(tls.ca_file),
        tls_client_cert=str(tls.cert_file),
        tls_client_key=str(tls.key_file),
        require_encryption=True,
    )
    try:
        security.get_connection_args("client")
    except ssl.SSLError as error:
        raise SettingsError(
            "the certificates cannot be used", "cluster.tls", str(error)[:200],
            "PEM files, the key belonging to the certificate",
        ) from error  # fmt: skip
    return security


def _require_readable(setting: str, path: Path) -> None:
    try:
        path.open("rb").close()
    except OSError as error:
        raise SettingsError("a certificate file cannot be read", setting, f"{path}: {error.strerror}") from error


def _unreachable(target: str, is_tls: bool, error: Exception) -> WorkersUnavailableError:
    """Say what kept a client out, as far as that can be told from this side."""
    got = str(error)[:200] or type(error).__name__
    if is_tls and isinstance(error, (AssertionError, ssl.SSLError, CommClosedError)):
        return WorkersUnavailableError(
            "the scheduler and this client do not accept each other's certificates, or it speaks no TLS", target, got,
            "certificates of one authority on both sides", "compare cluster.tls.ca_file with the scheduler's",
        )  # fmt: skip
    if isinstance(error, CommClosedError):
        return WorkersUnavailableError(
            "the scheduler hung up", target, got, "a scheduler without TLS at a tcp:// address",
            "if it speaks TLS, give a tls:// address and [cluster.tls]",
        )  # fmt: skip
    return WorkersUnavailableError(
        "no scheduler answers", target, got, "a running Dask scheduler",
        "start it, or leave --cluster out to run on this machine",
    )  # fmt: skip
