"""A canary stands in every place where a secret may be; after runs that go well and badly, no byte written holds it."""

import functools
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from daskae.errors import InputError
from daskae.masking import mask_secrets
from tests.support import Child, orders_csv

CANARY = "c4n4ry-Sup3r@S:cret"
TOKEN = "t0ken-c4n4ry"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """A web server with orders, as host and port."""
    folder = tmp_path / "web"
    folder.mkdir()
    (folder / "orders.csv").write_bytes(orders_csv(60))

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder))) as httpd:
        thread = threading.Thread(target=httpd.serve_forever)
        thread.start()
        yield f"127.0.0.1:{httpd.server_address[1]}"
        httpd.shutdown()
        thread.join()


def run(tmp_path: Path, *argv: str, config: str = "", **environment: str) -> tuple[int, str]:
    """Run the command with all it can say; its exit code, and what it printed."""
    settings = tmp_path / "secret" / "settings.toml"
    settings.parent.mkdir(exist_ok=True)
    settings.write_text(config)
    places = ["--config", str(settings), "--work-dir", str(tmp_path / "work"), "--cluster", "inline"]
    child = Child([*argv, *places, "-vv", "--json"], tmp_path / "printed", environment, errors=True)
    code = child.wait()
    assert code is not None
    return code, child.output.read_text()


def assert_hidden(tmp_path: Path, printed: str) -> None:
    """Look at every byte that was written or printed."""
    secrets = [text.encode() for text in (CANARY, "Sup3r@S", "S:cret", "c4n4ry", TOKEN)]
    found = [name for name in secrets if name in printed.encode()]
    assert found == [], printed
    for path in tmp_path.rglob("*"):
        if path.is_file() and "secret" not in path.relative_to(tmp_path).parts:
            assert not [name for name in secrets if name in path.read_bytes()], path


FAILING_TARGETS = [
    f"postgresql://me:{CANARY.replace('@', '%40').replace(':', '%3A')}@127.0.0.1:9/shop",
    f"postgresql://127.0.0.1:9/shop?user=me&password={TOKEN}",
    f"mssql://me:{TOKEN}@127.0.0.1/shop",
    f"ftp://me:{TOKEN}@127.0.0.1:9/out",
]
FAILING_INPUTS = [
    f"ftp://me:{TOKEN}@127.0.0.1:9/orders.csv",
    f"postgresql://me:{TOKEN}@127.0.0.1:9/shop",
    f"unknown://me:{CANARY}@nowhere/orders.csv",
    f"http://127.0.0.1:9/orders.csv?token={TOKEN}&x=1",
]


@pytest.mark.parametrize("target", FAILING_TARGETS)
def test_a_target_that_cannot_be_reached(target: str, tmp_path: Path) -> None:
    (tmp_path / "orders.csv").write_bytes(orders_csv(20))
    code, printed = run(tmp_path, str(tmp_path / "orders.csv"), DASKAE_TO=target)
    assert code != 0
    assert_hidden(tmp_path, printed)


@pytest.mark.parametrize("source", FAILING_INPUTS)
def test_an_input_that_cannot_be_reached(source: str, tmp_path: Path) -> None:
    code, printed = run(tmp_path, source, "--to", f"{tmp_path}/out/", config='[input]\ntable = "orders"\n')
    assert code != 0
    assert_hidden(tmp_path, printed)


@pytest.mark.parametrize("ending", ["done", "refused", "failed"])
def test_an_input_behind_a_password(ending: str, server: str, tmp_path: Path) -> None:
    pytest.importorskip("aiohttp", reason="fsspec reads http with aiohttp")
    rules = {
        "done": "",
        "refused": '[[rules]]\nrule = "row_count"\nmin = 1000\n',
        "failed": "[load]\non_drift = 'freeze'\n[[load.checks]]\nname = 'c'\nsql = 'SELECT nothing'\n",
    }
    to = f"sqlite:///{tmp_path}/metrics.db" if ending == "failed" else f"{tmp_path}/out/"
    source = f"http://me:{TOKEN}@{server}/orders.csv?sig={TOKEN}"
    for _ in range(2):
        code, printed = run(tmp_path, source, "--to", to, config=rules[ending])
        assert code == {"done": 0, "refused": 4, "failed": 2}[ending], printed
        assert_hidden(tmp_path, printed)


def test_a_reference_behind_a_password(tmp_path: Path) -> None:
    (tmp_path / "orders.csv").write_bytes(orders_csv(20))
    rule = f'[[rules]]\nrule = "reference"\ncolumn = "note"\nsource = "ftp://me:{TOKEN}@127.0.0.1:9/keys.csv"\n'
    code, printed = run(tmp_path, str(tmp_path / "orders.csv"), "--to", f"{tmp_path}/out/", config=rule)
    assert code != 0
    assert_hidden(tmp_path, printed)


def test_errors_mask_what_they_are_given() -> None:
    url = f"s3://me:{CANARY}@bucket/x.csv?token={TOKEN}"
    error = InputError("an input is gone", url, f"HTTP 403 for {url}", hint=f"try {url}")
    assert "c4n4ry" not in str(error) + repr(error) + repr(error.args)
    assert error.where == "s3://me:***@bucket/x.csv?token=***"
    assert mask_secrets("a = 1 and b?c") == "a = 1 and b?c"
