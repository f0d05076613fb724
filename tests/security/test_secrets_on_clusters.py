"""Canaries in the URLs of inputs and target of runs on clusters that go well and badly: no byte written holds one."""

import http.server
import os
import subprocess
import sys
import threading
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import distributed
import psutil
import psycopg
import pytest

from daskae.errors import InputError
from daskae.partition import PartitionRef, Segment
from daskae.read.source import RangeReader
from tests.engine.clusters import Cluster
from tests.fault_log import fault
from tests.load.server import Server, postgresql_server
from tests.support import ROOT, orders_csv, until

PASSWORD = "pa55w0rd-c4n4ry"
"""Of the database that is written to, and of one that is read from."""
TOKEN = "t0ken-c4n4ry"
"""Of the web server that is read from."""

# A person's step that does harm on the worker it runs on.
SCRIPT = """
import os, signal
from pathlib import Path

from daskae.transform.registry import register
from daskae.transform.steps import Step
from jobs.customer_metrics import main


@register("harm", reads=["order_id"])
def harm(table, what="", mark=""):
    if not len(table):  # the plan asks the driver what it makes of no rows
        return table
    if what == "cut" and len(table) > 13:
        raise MemoryError
    if what == "raise":
        raise ValueError("a task fails")
    if what == "die" and not Path(mark).exists():
        Path(mark).write_text("")
        os.kill(os.getpid(), signal.SIGKILL)
    return table


if __name__ == "__main__":
    import sys

    what, mark, *argv = sys.argv[1:]
    raise SystemExit(main(argv, steps=[Step(function="harm", parameters={"what": what, "mark": mark})]))
"""

# What a scheduler is given and remembers: every task as it is sent, all events, all logs.
SPY = """
import itertools, json, os
from pathlib import Path

import cloudpickle
from distributed.diagnostics.plugin import SchedulerPlugin

FOLDER, NUMBERS = Path(os.environ["TEST_SPY_FOLDER"]), itertools.count()


class Spy(SchedulerPlugin):
    name = "spy"

    def __init__(self, scheduler):
        self.scheduler = scheduler

    def transition(self, key, start, finish, *args, **kwargs):
        task = self.scheduler.tasks.get(key)
        if task is not None and task.run_spec is not None and finish == "processing":
            self.write("task", cloudpickle.dumps(task.run_spec))
        self.write("events", repr(self.scheduler.get_events()).encode())
        self.write("transition", repr((key, start, finish, args, kwargs)).encode())

    def write(self, name, data):
        (FOLDER / f"{name}-{os.getpid()}-{next(NUMBERS)}").write_bytes(data)


def dask_setup(scheduler):
    scheduler.add_plugin(Spy(scheduler))
"""


class Web(http.server.BaseHTTPRequestHandler):
    """A web server of one file that asks for nothing, and refuses everything when it is told to."""

    refuses = threading.Event()
    knows_no_ranges = threading.Event()
    data = orders_csv(120)

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self.send_response(200)
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(len(self.data)))
        self.end_headers()

    def do_GET(self) -> None:
        if self.refuses.is_set():
            self.send_error(403, "the token is not valid any more")
            return
        if self.knows_no_ranges.is_set():
            self.do_HEAD()
            self.wfile.write(self.data)
            return
        first, _, last = self.headers.get("Range", "bytes=0-").removeprefix("bytes=").partition("-")
        part = self.data[int(first) : int(last) + 1 if last else None]
        self.send_response(206)
        self.send_header("Content-Range", f"bytes {first}-{int(first) + len(part) - 1}/{len(self.data)}")
        self.send_header("Content-Length", str(len(part)))
        self.end_headers()
        self.wfile.write(part)


@dataclass
class Shop:
    """Where orders come from and go to."""

    folder: Path
    web: str
    server: Server
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def source(self) -> str:
        return f"http://me:{TOKEN}@{self.web}/orders.csv?sig={TOKEN}"

    @property
    def database(self) -> str:
        return self.server.url.replace("sesame", PASSWORD)

    @property
    def spied(self) -> Path:
        return self.folder / "spied"

    def start(self, source: str, cluster: str, what: str = "", **environment: str) -> subprocess.Popen[bytes]:
        """Start the job with all it can say."""
        places = [
            "--work-dir",
            f"{self.folder}/work",
            "--workers",
            "2",
            "--block-size",
            "1KiB",
            "--as-of",
            "2024-01-01",
        ]
        command = [sys.executable, f"{self.folder}/script.py", what, f"{self.folder}/mark", source, *places]
        config = ["--cluster", cluster, "--config", f"{self.folder}/settings.toml", "-vv", "--json"]
        given = {**os.environ, **self.environment, "PYTHONPATH": str(ROOT), "DASKAE_TO": self.database, **environment}
        with (self.folder / "stdout").open("ab") as output, (self.folder / "stderr").open("ab") as errors:
            return subprocess.Popen([*command, *config], cwd=self.folder, env=given, stdout=output, stderr=errors)

    def errors(self) -> str:
        return (self.folder / "stderr").read_text()


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with postgresql_server() as started:
        yield started


@pytest.fixture
def web() -> Iterator[str]:
    """Host and port of a web server."""
    pytest.importorskip("aiohttp", reason="fsspec reads http with aiohttp")
    Web.refuses.clear()
    Web.knows_no_ranges.clear()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Web) as httpd:
        thread = threading.Thread(target=httpd.serve_forever)
        thread.start()
        yield f"127.0.0.1:{httpd.server_address[1]}"
        httpd.shutdown()
        thread.join()


@pytest.fixture
def shop(server: Server, web: str, tmp_path: Path) -> Shop:
    for name in ("spied", "cluster"):
        (tmp_path / name).mkdir()
    (tmp_path / "script.py").write_text(SCRIPT)
    (tmp_path / "spy.py").write_text(SPY)
    (tmp_path / "settings.toml").write_text('[input]\ntable = "source_orders"\n')
    with psycopg.connect(server.url, autocommit=True) as database:
        database.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
        database.execute("CREATE TABLE source_orders (order_id text, customer_id text, order_date date, amount text)")
        database.execute("INSERT INTO source_orders SELECT i, i % 7, '2023-05-01', i FROM generate_series(1, 90) AS i")
    spying = {"TEST_SPY_FOLDER": f"{tmp_path}/spied", "DASK_DISTRIBUTED__SCHEDULER__PRELOAD": f"['{tmp_path}/spy.py']"}
    return Shop(tmp_path, web, server, spying)


@pytest.mark.parametrize("trouble", [Web.refuses, Web.knows_no_ranges], ids=["403", "ranges"])
def test_an_error_of_a_web_server_names_no_secret(trouble: threading.Event, web: str) -> None:
    """Nor does what a worker would log of it: the error with what led to it."""
    url = f"http://me:{TOKEN}@{web}/orders.csv?sig={TOKEN}"
    trouble.set()
    fault("refusing web server", "403 to everything" if trouble is Web.refuses else "no ranges", "reader")
    with pytest.raises(InputError, match=r"403|range requests") as raised, RangeReader(url) as reader:
        reader.read(1000, 10)
    assert "sig=***" in str(raised.value)
    assert TOKEN not in "".join(traceback.format_exception(raised.value))


def test_libraries_that_log_a_segment_log_no_url() -> None:
    segment = Segment(f"http://me:{TOKEN}@web/a.csv", "a.csv", "csv", 0, 9, 9, "ab", ("id",), "1")
    assert TOKEN not in repr(PartitionRef((segment,)))


def assert_hidden(shop: Shop) -> None:
    """Look at every byte of every file there is, those in which a scheduler was spied upon too."""
    paths = [path for path in shop.folder.rglob("*") if path.is_file()]
    assert len(paths) > 20
    for path in paths:
        data = path.read_bytes() + path.name.encode()
        assert PASSWORD.encode() not in data, path
        # A task is told the URL it is to read from, over the connection of the cluster, and nobody else is.
        if not path.name.startswith("task-"):
            assert TOKEN.encode() not in data, path
        assert b"c4n4ry" not in data or path.name.startswith("task-"), path


def run_all(shop: Shop, cluster: str) -> None:
    """Run the job well and badly in all ways; what is written is looked at after each."""
    for source in (shop.source, shop.database):
        for what, code in (("die", 0), ("raise", 1)):
            (shop.folder / "mark").unlink(missing_ok=True)
            assert shop.start(source, cluster, what).wait(180) == code, shop.errors()
            assert (what == "die") == (shop.folder / "mark").exists()
            fault("kill", "in a task, once", "worker", count=int(what == "die"))
            assert_hidden(shop)
    assert "a task fails" in shop.errors()
    stopped = shop.start(shop.source, cluster, "later", DASKAE_STOP_AT="plan.made")
    until(lambda: psutil.Process(stopped.pid).status() == psutil.STATUS_STOPPED, "the stop")
    Web.refuses.set()
    fault("refusing web server", "403 to everything, when the plan is made", "worker")
    psutil.Process(stopped.pid).resume()
    assert stopped.wait(180) == 1, shop.errors()
    assert "403" in shop.errors()
    assert_hidden(shop)
    Web.refuses.clear()
    with psycopg.connect(shop.server.url, autocommit=True) as database:
        database.execute("CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RAISE 'refused'; END$$")
        database.execute("CREATE TRIGGER refuse BEFORE INSERT ON kpis EXECUTE FUNCTION refuse()")
    assert shop.start(shop.source, cluster, "other").wait(180) == 1, shop.errors()
    assert "refused" in shop.errors()
    assert_hidden(shop)


@pytest.mark.slow
@pytest.mark.dask
@pytest.mark.timeout(600)
@pytest.mark.parametrize("cluster", ["local", "processes"])
def test_workers_of_this_machine(cluster: str, shop: Shop) -> None:
    run_all(shop, cluster)
    assert list(shop.spied.glob("task-*"))
    assert list(shop.spied.glob("events-*"))


@pytest.mark.slow
@pytest.mark.dask
@pytest.mark.timeout(600)
def test_a_scheduler_somewhere_else(shop: Shop) -> None:
    environment = {**shop.environment, "DASKAE_DATABASE_URL": shop.database}
    with Cluster(shop.folder / "cluster", workers=2, **environment) as cluster:
        run_all(shop, str(cluster.file))
        with distributed.Client(cluster.address) as client:
            seen = repr([client.get_events(), client.get_scheduler_logs(), client.get_worker_logs()])
    assert "worker-get-client" in seen or "all" in seen
    assert PASSWORD not in seen
    assert TOKEN not in seen
    assert list(shop.spied.glob("task-*"))


@pytest.mark.slow
def test_a_partition_that_was_cut(shop: Shop) -> None:
    """Its pieces are noted in the work directory."""
    assert shop.start(shop.source, "inline", "cut").wait(180) == 0, shop.errors()
    assert list((shop.folder / "work").glob("maps/*/*/split.json"))
    assert_hidden(shop)
