"""A canary customer is in every place that the job writes to, and after a purge in none."""

import io
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pyarrow.parquet as pq
import pytest

from daskae.errors import SettingsError, TargetBusyError
from daskae.run.presence import present
from daskae.run.record import load_record
from jobs import quarantine
from jobs.purge import main
from tests.fault_log import armed, checked, target_of
from tests.support import (
    CONTEXT,
    EXACT_DUPLICATE,
    POSITIVE_QUANTITY,
    WAIT,
    Child,
    call_main,
    files_naming,
    read_quarantine,
    write_settings,
)

CANARY = "CANARY-4711"
NOTE = "the input still has them: a later run brings them back unless the input, or a rule, leaves them out"


def orders() -> str:
    """The canary has the highest revenue, and rows that are wrong in all ways; its id is in other cells, too."""
    lines = ["order_id,customer_id,order_date,amount,quantity,note"]
    for i in range(120):
        customer = CANARY if i % 3 == 0 else f"C{i % 37}"
        amount = "oops" if i % 17 == 5 else f"{9000 + i}.50" if customer == CANARY else f"{i}.25"
        note = f'"two\nlines for {CANARY}"' if i % 11 == 3 else "plain"
        more = ",x" if i % 31 == 6 else ""
        lines.append(f"O{i},{customer},2023-{i % 12 + 1:02d}-01 10:00:00,{amount},{i % 9},{note}{more}")
    return "\n".join([*lines, lines[1], lines[2]]) + "\n"


@dataclass(frozen=True)
class Shop:
    """One folder with an input, a work directory and both kinds of targets."""

    folder: Path

    @property
    def work(self) -> Path:
        return self.folder / "work"

    @property
    def database(self) -> str:
        return f"sqlite:///{self.folder}/target/shop.db"

    def run(self, to: str, *more: str) -> dict[str, Any]:
        code, text = call_main(self.argv(to, *more))
        assert code in (0, 3)
        document: dict[str, Any] = json.loads(text)
        return document

    def argv(self, to: str, *more: str) -> list[str]:
        config = ["--config", f"{self.folder}/settings.toml", "--work-dir", str(self.work)]
        return [f"{self.folder}/in", *config, "--to", to, "--cluster", "inline", "--quiet", "--json", *more]

    def customers(self) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(self.folder / "target" / "shop.db")) as database:
            return database.execute("SELECT * FROM customer_metrics ORDER BY customer_id").fetchall()

    def files(self) -> dict[str, bytes]:
        """Everything in the work directory."""
        paths = (path for path in self.work.rglob("*") if path.is_file())
        return {str(path.relative_to(self.work)): path.read_bytes() for path in paths}


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    """A shop with a history: runs into both targets, one after the other over the same input, and corrections."""
    shop = Shop(tmp_path_factory.mktemp("shop"))
    (shop.folder / "in").mkdir()
    (shop.folder / "target").mkdir()
    (shop.folder / "in" / "orders.csv").write_text(orders())
    (shop.folder / "known.csv").write_text(f"id\nC1\n{CANARY}\n")
    known = {"rule": "reference", "name": "known", "column": "customer_id", "source": f"{shop.folder}/known.csv"}
    warned = {"rule": "allowed_values", "name": "others", "column": "customer_id", "values": ["C1"]}
    rules = [{**rule, "on_failure": "warn"} for rule in ({**known, "source_column": "id"}, warned)]
    settings = shop.folder / "settings.toml"
    write_settings(settings, POSITIVE_QUANTITY, EXACT_DUPLICATE, *rules, load={"timeout_seconds": 0.2})
    shop.run(f"{shop.folder}/out/", "--profile", "thorough")
    for _ in range(2):
        shop.run(f"{shop.folder}/out/", "--strategy", "append")
    rejects = shop.folder / "rejects.csv"
    assert quarantine.main(["show", "--out", str(rejects), "--work-dir", str(shop.work)]) == 0
    rejects.write_text(rejects.read_text().replace("oops", "12.50"))
    assert quarantine.main(["replay", str(rejects), "--no-run", "--work-dir", str(shop.work)]) == 0
    settings.write_text(
        settings.read_text() + f'[[load.checks]]\nname = "look"\ntable = "customer_metrics"\non_failure = "warn"\n'
        f"sql = \"SELECT customer_id FROM {{staged}} WHERE customer_id <> '{CANARY}x'\"\n"
        'at = "before"\n[[steps]]\nname = "calls"\ncolumn = "customer_id"\n'
        f"expression = \"CASE WHEN customer_id = 'nobody' THEN '{CANARY}' ELSE customer_id END\"\n"
    )
    shop.run(shop.database)
    return shop


@pytest.fixture
def shop(played: Shop, tmp_path: Path) -> Shop:
    """A copy of it, to be purged; links of one file stay links of one."""
    copy_links(played.folder, tmp_path)
    return Shop(tmp_path)


def copy_links(source: Path, target: Path) -> None:
    """Copy a folder; what is one file under two names is so in the copy."""
    subprocess.run(["cp", "-a", f"{source}/.", str(target)], check=True)


def purge(*argv: str) -> tuple[int, str, str]:
    """Call the command in this process; its exit code and what it printed."""
    output, errors = io.StringIO(), io.StringIO()
    with redirect_stdout(output), redirect_stderr(errors):
        code = main(list(argv))
    return code, output.getvalue(), errors.getvalue()


def purged(shop: Shop, to: str, *more: str) -> dict[str, Any]:
    code, text, errors = purge(CANARY, "--to", to, "--work-dir", str(shop.work), "--json", *more)
    assert (code, errors) == (0, "")
    document: dict[str, Any] = json.loads(text)
    return document


def quarantines(shop: Shop) -> dict[str, list[dict[str, Any]]]:
    return {path.parent.name: read_quarantine(path) for path in sorted(shop.work.glob("runs/*/quarantine"))}


def test_nothing_names_the_customer_any_more(shop: Shop) -> None:
    """In no file, decoded or not; other rows, files and figures are what they were."""
    before, customers = quarantines(shop), [row for row in shop.customers() if row[0] != CANARY]
    names = {path.rpartition("/")[2].partition("-")[0] for path in files_naming(shop.work, CANARY)}
    assert {"corrections.json", "keys.arrow", "report.html", "profile.json", "manifest.json"} <= names
    assert {"settings.json", "rejected", "rows", "rejects", "check"} <= names
    assert len(shop.customers()) == len(customers) + 1

    planned = purged(shop, shop.database, "--dry-run")
    assert {path.rpartition("/")[2].partition("-")[0] for path in files_naming(shop.work, CANARY)} == names
    first = purged(shop, shop.database)
    assert first == {**planned, "dry_run": False}
    assert first["target"] == {"url": shop.database, "rows": {"customer_metrics": 1}, "older_snapshots": 0}
    assert min(count for name, count in first["work_dir"].items() if name not in ("path", "removed_files")) > 0
    second = purged(shop, f"{shop.folder}/out/")
    assert second["target"]["rows"] == {"customer_metrics": 1}
    assert {name: count for name, count in second["work_dir"].items() if name != "path" and count} == {}

    assert [files_naming(shop.folder / name, CANARY) for name in ("work", "target", "out")] == [[], [], []]
    assert shop.customers() == customers
    after = quarantines(shop)
    assert after == {run: [row for row in rows if CANARY not in repr(row)] for run, rows in before.items()}
    assert all(after.values())


def test_documents_stay_documents(shop: Shop) -> None:
    """Masks stand in texts only; counts and the list of runs are what the runs said."""
    work = ["--work-dir", str(shop.work)]
    with redirect_stdout(io.StringIO()) as listed:
        quarantine.main(["list", *work])
    manifests = {path: json.loads(path.read_text()) for path in shop.work.glob("runs/*/manifest.json")}
    purged(shop, shop.database)
    with redirect_stdout(io.StringIO()) as again:
        quarantine.main(["list", *work])
    assert again.getvalue().partition("corrections")[0] == listed.getvalue().partition("corrections")[0]
    for path, manifest in manifests.items():
        assert json.loads(path.read_text()) == json.loads(json.dumps(manifest).replace(CANARY, "***"))
    for path in shop.work.glob("runs/*/events.jsonl"):
        assert [json.loads(line)["run_id"] for line in path.read_text().splitlines() if "run_id" in line]
    for path in shop.work.glob("runs/*/report.html"):
        text = path.read_text()
        assert text.endswith("</html>")
        assert ">***</th>" in text
        assert "--ink:" in text
        assert "lines for" not in text  # the record of the customer goes, not the id in it alone


def test_settings_that_name_the_customer_are_not_replayed_with_a_mask(shop: Shop) -> None:
    """The expression would be another one."""
    named = [path for path in files_naming(shop.work, CANARY) if path.endswith("/settings.json")]
    assert len(named) == 1
    purged(shop, shop.database)
    with pytest.raises(SettingsError, match="the run has no record of its settings"):
        load_record((shop.work / named[0]).parent)
    others = [path.parent for path in shop.work.glob("runs/*/settings.json") if str(path) != f"{shop.work}/{named[0]}"]
    assert {load_record(folder).run_id for folder in others} == {folder.name for folder in others}
    assert len(others) == 3


def test_runs_over_one_input_go_on_sharing_a_file(shop: Shop) -> None:
    def inodes() -> list[int]:
        return [path.stat().st_ino for path in shop.work.glob("runs/*/quarantine/*/*.parquet")]

    before = inodes()
    purged(shop, shop.database)
    assert len(set(inodes())) == len(set(before)) < len(before)


def test_a_later_run_brings_them_back_unless_a_rule_leaves_them_out(shop: Shop) -> None:
    """As the command says. A run after the purge makes again what was cached."""
    customers = shop.customers()
    code, text, errors = purge(CANARY, "--to", shop.database, "--work-dir", str(shop.work))
    assert (code, errors) == (0, "")
    assert text.splitlines()[0] == "removed, for 1 customer id:"
    assert text.splitlines()[1] == f"  {shop.database}: rows of customer_metrics: 1"
    assert text.splitlines()[-1] == NOTE
    settings = shop.folder / "settings.toml"
    kept = settings.read_text()
    rule = f"customer_id <> '{CANARY}'"
    settings.write_text(f'{kept}[[rules]]\nrule = "expression"\nname = "gone"\nexpression = "{rule}"\n')
    assert shop.run(shop.database)["reused_partitions"] == 0
    assert [row[0] for row in shop.customers()] == [row[0] for row in customers if row[0] != CANARY]
    settings.write_text(kept)
    shop.run(shop.database)
    assert [row[0] for row in shop.customers()] == [row[0] for row in customers]


def test_what_dead_runs_left(shop: Shop) -> None:
    """A file that nobody can read, one that was never finished, and what a fresh run had for itself."""
    run = next(shop.work.glob("runs/*"))
    (run / "left_out").mkdir(exist_ok=True)
    (run / "left_out" / "torn.parquet").write_bytes(b"PAR1" + CANARY.encode())
    os.link(run / "left_out" / "torn.parquet", run / "left_out" / "torn-too.parquet")
    (run / "left_out" / "t.tmp").write_bytes(CANARY.encode())
    (run / "other.arrow").write_bytes(CANARY.encode())
    (run / "traceback.txt").write_text(f"ValueError: {CANARY}, {CANARY}2\n")
    (run / "fresh" / "maps").mkdir(parents=True)
    (run / "fresh" / "maps" / "rows.arrow").write_bytes(CANARY.encode())
    assert purged(shop, shop.database)["work_dir"]["removed_files"] == 2
    assert (run / "traceback.txt").read_text() == f"ValueError: ***, {CANARY}2\n"
    assert files_naming(shop.work, f"{CANARY}2") == [f"runs/{run.name}/traceback.txt"]
    (run / "traceback.txt").unlink()
    assert files_naming(shop.work, CANARY) == []


def test_rows_that_a_check_found(shop: Shop) -> None:
    """A separator of lines within a text separates no rows."""
    (path,) = shop.work.glob("runs/*/left_out/check-*.jsonl")
    rows = [{"id": "C1", "note": "a\u2028b"}, {"id": "C2", "note": f"for\n{CANARY}\u2028now"}, {"id": f"{CANARY}0"}]
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    purged(shop, shop.database)
    assert [json.loads(line) for line in path.read_text().split("\n")[:-1]] == [rows[0], rows[2]]


def test_a_file_that_cannot_be_read_is_named(shop: Shop) -> None:
    path = next(shop.work.glob("runs/*/quarantine/*/*.parquet"))
    data = bytearray(path.read_bytes())
    data[4:40] = bytes(36)
    path.unlink()  # the file has other names in other runs
    path.write_bytes(data)
    code, _, errors = purge(CANARY, "--to", shop.database, "--work-dir", str(shop.work))
    assert code == 1
    assert errors.startswith(f"error: a part of the work directory cannot be purged\n  where:   {path}\n")
    path.unlink()
    purged(shop, shop.database)
    assert files_naming(shop.work, CANARY) == []


def test_rows_left_out_at_the_load(shop: Shop) -> None:
    run = next(shop.work.glob("runs/*"))
    path = run / "left_out" / "customer_metrics-null_key.parquet"
    path.parent.mkdir(exist_ok=True)
    table = pq.read_table(next(shop.work.glob("runs/*/quarantine/*/*.parquet")), partitioning=None)
    table = table.replace_schema_metadata({"of": "the load"})
    pq.write_table(table, path)
    purged(shop, shop.database)
    rows = [row for row in table.to_pylist() if CANARY not in repr(row)]
    assert pq.read_table(path, partitioning=None).to_pylist() == rows
    assert pq.read_schema(path).metadata == table.schema.metadata


def _armed(argv: list[str], variable: str, point: str) -> None:
    os.environ[variable] = point
    sys.exit(main(argv))


def killed_at(shop: Shop, point: str) -> int | None:
    """Purge in a child that may die; its exit code."""
    argv = [CANARY, "--to", shop.database, "--work-dir", str(shop.work)]
    armed("purge", target_of(shop.database))
    child = CONTEXT.Process(target=_armed, args=(argv, "DASKAE_CRASH_AT", point))
    child.start()
    child.join(WAIT)
    return child.exitcode


def assert_ends_alike(shop: Shop, calm: Shop) -> None:
    assert shop.files() == calm.files()
    assert shop.customers() == calm.customers()
    checked("contents")
    assert files_naming(shop.folder / "target", CANARY) == []


@pytest.fixture
def calm(shop: Shop, tmp_path_factory: pytest.TempPathFactory) -> Shop:
    """The same shop, purged without an interruption."""
    copy = Shop(tmp_path_factory.mktemp("calm"))
    copy_links(shop.folder, copy.folder)
    purged(copy, copy.database)
    return copy


def test_killed_and_run_again(shop: Shop, calm: Shop) -> None:
    """At places of every kind, one after the other."""
    points = ["sqlite.purged", "purge.target", "purge.cache:2", "corrections.before_rename", "purge.writing:2"]
    for point in [*points, "purge.file:9", "purge.writing:3"]:
        assert killed_at(shop, point) == -signal.SIGKILL, point
    assert killed_at(shop, "none") == 0
    assert_ends_alike(shop, calm)


@pytest.mark.slow
def test_killed_everywhere(shop: Shop, calm: Shop) -> None:
    number = 1
    while killed_at(shop, f"*:{number}") == -signal.SIGKILL:
        number += 1
    assert number > 30
    assert_ends_alike(shop, calm)


def stopped(shop: Shop, point: str) -> Child:
    (shop.folder / "in" / "more.csv").write_text(orders().replace(",C", ",D"))
    child = Child(shop.argv(shop.database), shop.folder / "stdout.json", {"DASKAE_STOP_AT": point})
    process = psutil.Process(child.pid)
    while process.status() != psutil.STATUS_STOPPED:
        assert child.wait(0.02) is None
    return child


def test_beside_a_load(shop: Shop, tmp_path: Path) -> None:
    """A run keeps a purge out of its work directory, and from another one out of the target while it publishes."""
    child = stopped(shop, "sqlite.staged")
    config = ["--config", f"{shop.folder}/settings.toml"]
    try:
        code, text, errors = purge(CANARY, "--to", shop.database, *config, "--work-dir", str(shop.work))
        assert (code, text) == (75, "")
        assert errors.startswith("error: the work directory is in use; waited 0.2 s\n")
        (tmp_path / "elsewhere").mkdir()
        code, text, errors = purge(CANARY, "--to", shop.database, *config, "--work-dir", str(tmp_path / "elsewhere"))
        assert (code, text) == (75, "")
        assert errors.startswith("error: another run is publishing into the target; waited 0.2 s\n")
        assert CANARY not in errors
    finally:
        os.kill(child.pid, signal.SIGCONT)
    assert child.wait() == 0
    assert purged(shop, shop.database)["target"]["rows"] == {"customer_metrics": 1}
    assert files_naming(shop.work, CANARY) == []


def test_a_run_waits_for_a_purge(shop: Shop) -> None:
    with present(shop.work, 0, alone=True), redirect_stderr(io.StringIO()) as errors:
        code, _ = call_main(shop.argv(shop.database))
    assert code == 75
    assert "the work directory is in use; waited 0.2 s" in errors.getvalue()


def test_runs_share_a_work_directory(tmp_path: Path) -> None:
    busy = pytest.raises(TargetBusyError, match="the work directory is in use; waited 0 s")
    with present(tmp_path, 0), present(tmp_path, 0), busy, present(tmp_path, 0, alone=True):
        pytest.fail("others are there")
    with present(tmp_path, 0, alone=True):
        pass


@pytest.mark.parametrize(
    ("argv", "code", "text"),
    [
        (["--to", "sqlite:///{folder}/target/shop.db"], 2, "error: a customer's id is empty"),
        (["", "--to", "sqlite:///{folder}/target/shop.db"], 2, "error: a customer's id is empty"),
        (["C1", "--to", "sqlite:///{folder}/none.db"], 1, "error: nothing was ever loaded into this target"),
        (["C1", "--to", "{folder}/none/"], 1, "error: nothing was ever loaded into this target"),
        (["C1", "--to", "{folder}/out/", "--work-dir", "{folder}/no"], 2, "error: there is no such work directory"),
        (["C1", "--to", "nothing://x"], 2, "error: this kind of target is not supported"),
        (["C1"], 2, ""),
    ],
)
def test_mistakes(shop: Shop, argv: list[str], code: int, text: str) -> None:
    before = shop.files()
    given = [item.format(folder=shop.folder) for item in argv]
    found = purge(*given, *([] if "--work-dir" in given else ["--work-dir", str(shop.work)]))
    assert found[0] == code
    assert text in found[2]
    assert {name: data for name, data in shop.files().items() if name != "turns/presence"} == {
        name: data for name, data in before.items() if name != "turns/presence"
    }
    shutil.rmtree(shop.folder)
