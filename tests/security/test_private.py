"""Who may look into the work directory, and that names from data lead nowhere."""

import os
from pathlib import Path

from daskae.run.workdir import FOLDERS
from tests.support import EXACT_DUPLICATE, run

NAMES = [
    "../../up",
    "/etc/passwd",
    "a/b",
    "..",
    ".",
    "nul\x01",
    "x" * 300,
    "C:\\con",
    "a%2F..%2Fb",
    "$(id)",
    "`id`",
    "-rf",
]


def write_orders(path: Path) -> None:
    rows = [f'"{name}","{name}",2023-01-0{i % 9 + 1},1.00,1,"{name}"' for i, name in enumerate(NAMES)]
    rows += [f'"{name}","{name}",soon,1.00,1,"{name}"' for name in NAMES]
    path.write_text("order_id,customer_id,order_date,amount,quantity,note\n" + "\n".join([*rows, *rows[:3]]) + "\n")


def test_the_work_directory_is_for_its_owner_alone(tmp_path: Path) -> None:
    write_orders(tmp_path / "orders.csv")
    before = os.umask(0)
    try:
        found = run(tmp_path / "orders.csv", tmp_path, rules=[EXACT_DUPLICATE])
    finally:
        os.umask(before)
    work = tmp_path / "work"
    assert {path.name: path.stat().st_mode & 0o777 for path in work.iterdir()} == dict.fromkeys(FOLDERS, 0o700)
    assert found.summary.rows.rejected == len(NAMES) + 3
    assert Path(found.summary.run_dir).stat().st_mode & 0o777 == 0o700


def test_no_name_in_the_data_leads_out_of_the_folders(tmp_path: Path) -> None:
    inner = tmp_path / "a" / "b" / "c"
    inner.mkdir(parents=True)
    write_orders(inner / "orders.csv")
    found = run(inner / "orders.csv", inner, rules=[EXACT_DUPLICATE], validation={"profile": "thorough"})
    assert found.tables["customer_metrics"].num_rows == len(NAMES)
    assert {path.name for path in inner.iterdir()} == {"orders.csv", "work", "out"}
    assert [path for path in tmp_path.rglob("*") if not path.is_relative_to(inner) and path.is_file()] == []
    for path in inner.rglob("*"):
        assert path.resolve().is_relative_to(inner), path
