from pathlib import Path

import polars as pl

from daskae.aggregate.aggregation import metric
from tests.support import run

HEADER = "order_id,customer_id,order_date,amount,quantity,status\n"
QUANTITY = metric("quantity", pl.col("quantity").sum(), combine="sum", kind="money")
STATUS = metric("status", pl.col("status").first(), combine="max", kind="text")


def test_lines_without_an_order_id_keep_their_own_values(tmp_path: Path) -> None:
    path = tmp_path / "orders.csv"
    path.write_text(
        HEADER + ",C1,2024-01-01,1,1,a\n,C1,2024-01-02,1,2,b\nO1,C1,2024-01-03,1,4,c\nO1,C1,2024-01-03,1,8,d\n"
    )
    customer = run(path, tmp_path, metrics=[QUANTITY]).customer("C1")
    assert (customer["order_count"], customer["quantity"]) == (3, 15)


def test_the_first_line_of_an_order_is_first_in_the_input_whatever_was_read_before(tmp_path: Path) -> None:
    orders = tmp_path / "in"
    orders.mkdir()
    for name in "ac":
        (orders / f"{name}.csv").write_text(HEADER + f"O1,C1,2024-01-01,1,1,{name}\nO{name},C2,2024-01-01,1,1,x\n")
    (orders / "a.csv").write_text(HEADER + "Oa,C2,2024-01-01,1,1,x\n")
    run(orders, tmp_path, metrics=[STATUS])
    (orders / "b.csv").write_text(HEADER + "O1,C1,2024-01-01,1,1,b\n")
    again = run(orders, tmp_path, metrics=[STATUS])
    assert again.summary.reused_partitions == 1
    assert (
        again.customer("C1")["status"]
        == run(orders, tmp_path / "new", metrics=[STATUS]).customer("C1")["status"]
        == "b"
    )
