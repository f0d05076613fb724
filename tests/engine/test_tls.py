"""``tls://`` addresses: who has a certificate of the authority comes in, everybody else is told why not."""

import re
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest

from daskae.config import ClusterSettings
from daskae.config.clusters import TlsSettings
from daskae.engine.create import create_engine
from daskae.errors import DaskaeError, SettingsError, WorkersUnavailableError
from tests.engine.certificates import Authority
from tests.engine.clusters import Cluster
from tests.engine.test_engines import add, values

pytestmark = pytest.mark.dask


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def cluster(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A scheduler and a worker that speak TLS only."""
    variables = {"REQUIRE_ENCRYPTION": "True", "DEFAULT_SCHEME": "tls", "TLS__MIN_VERSION": "1.3"}
    variables["TLS__CA_FILE"] = str(authority.ca)
    for role in ("scheduler", "worker"):
        certificate, key = authority.sign(role)
        variables |= {f"TLS__{role.upper()}__CERT": str(certificate), f"TLS__{role.upper()}__KEY": str(key)}
    environment = {f"DASK_DISTRIBUTED__COMM__{name}": value for name, value in variables.items()}
    with Cluster(tmp_path_factory.mktemp("cluster"), workers=1, **environment) as started:
        yield started


def settings(authority: Authority | None, name: str = "client") -> ClusterSettings:
    if authority is None:
        return ClusterSettings(start_timeout="5s")
    certificate, key = authority.sign(name)
    return ClusterSettings(
        start_timeout="60s", tls=TlsSettings(ca_file=authority.ca, cert_file=certificate, key_file=key)
    )


@pytest.mark.parametrize("way", ["address", "file"])
def test_a_client_with_a_certificate_works(way: str, cluster: Cluster, authority: Authority) -> None:
    assert cluster.address.startswith("tls://127.0.0.1:")
    target = cluster.address if way == "address" else str(cluster.file)
    with create_engine(target, settings(authority)) as engine:
        assert values(engine.run(add, range(5), 1)) == {i: i + 1 for i in range(5)}


def refused(target: str, given: ClusterSettings, kind: type[DaskaeError], text: str) -> DaskaeError:
    with pytest.raises(kind, match=text) as raised, create_engine(target, given) as engine:
        values(engine.run(len, ["task"]))
    return raised.value


def test_a_client_without_a_certificate_is_refused(cluster: Cluster) -> None:
    refused(cluster.address, settings(None), SettingsError, r"a tls:// address needs certificates(.|\n)*ca_file")


def test_the_scheduler_itself_asks_for_a_certificate(cluster: Cluster, authority: Authority) -> None:
    """Without daskae's own check, and with a client that trusts whoever answers."""
    host, port = cluster.address.removeprefix("tls://").split(":")
    plain = ssl.create_default_context(cafile=str(authority.ca))
    plain.check_hostname = False
    with (
        socket.create_connection((host, int(port)), timeout=30) as connection,
        pytest.raises((ssl.SSLError, ConnectionError), match=r"(?i)certificate|reset"),
        plain.wrap_socket(connection) as secured,
    ):
        secured.recv(1)


def test_a_client_that_speaks_no_tls_is_refused(cluster: Cluster) -> None:
    plain = cluster.address.replace("tls://", "tcp://")
    error = refused(plain, settings(None), WorkersUnavailableError, r"the scheduler hung up(.|\n)*tls://")
    assert error.exit_code == 75


def test_a_client_of_another_authority_is_refused(cluster: Cluster, tmp_path: Path) -> None:
    other = settings(Authority(tmp_path), "stranger").model_copy(update={"start_timeout": "5s"})
    text = r"do not accept each other's certificates(.|\n)*next: .*ca_file"
    refused(cluster.address, other, WorkersUnavailableError, text)


def test_files_that_are_no_certificates(authority: Authority, tmp_path: Path) -> None:
    certificate, key = authority.sign("one")
    _, other_key = authority.sign("two")
    (tmp_path / "junk.pem").write_text("junk")
    for ca, cert, private, text in (
        (tmp_path / "none.pem", certificate, key, "cluster.tls.ca_file(.|\n)*none.pem: No such file"),
        (tmp_path / "junk.pem", certificate, key, "the certificates cannot be used"),
        (authority.ca, certificate, other_key, "the certificates cannot be used(.|\n)*key belonging to"),
    ):
        tls = TlsSettings(ca_file=ca, cert_file=cert, key_file=private)
        refused("tls://127.0.0.1:9", ClusterSettings(start_timeout="1s", tls=tls), SettingsError, text)


def test_certificates_are_given_whole(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=re.escape("ca_file, cert_file and key_file together")):
        TlsSettings(ca_file=tmp_path)
