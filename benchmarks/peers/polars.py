"""The job in Polars: lazy queries on the streaming engine.

The CSV reader of Polars gives up on a file with a quoted field that goes on after its quote, ``ignore_errors`` or not.
So the lines are read as text, which is as fast, and cut at the commas; only lines in or with quotes, a few percent, are
joined to records and matched against the grammar of CSV.
"""

import os
import sys
from pathlib import Path

from benchmarks.peers.interface import (
    AMOUNT,
    CHURN_DAYS,
    COLUMNS,
    DATE_FORMAT,
    QUANTITY,
    RULES,
    SET_RULES,
    Result,
    Task,
    main,
)

if "--cpus" in sys.argv:
    # The pool of threads is made when Polars is imported.
    os.environ["POLARS_MAX_THREADS"] = sys.argv[sys.argv.index("--cpus") + 1]

import polars as pl
from polars import col

FIELD = r'(?:"(?:[^"]|"")*"|[^",]*)'
RECORD = rf"^{FIELD}(?:,{FIELD})*$"
MONEY = pl.Decimal(18, 4)
ROW_RULES = RULES[: -len(SET_RULES)]
NOTES = ("takes quotes to be balanced within a record, and a line end within quotes to be \\n",)


def read_lines(path: Path, file: int) -> pl.LazyFrame:
    """Read the data lines of a file, each with its place over all files and whether it starts within quotes."""
    lines = pl.scan_csv(
        path,
        has_header=False,
        skip_rows=1,
        separator="\x1f",  # no line has it, so a line is one field
        quote_char=None,
        schema={"line": pl.String},
        encoding="utf8-lossy",
        empty_string_is_null=False,
        row_index_name="place",
        row_index_offset=1,
    )
    quotes = col("line").str.count_matches('"', literal=True)
    return lines.with_columns(
        col("place").cast(pl.Int64) + (file << 40), pl.lit(file, pl.UInt32).alias("file"), quotes.alias("quotes")
    ).with_columns(within=(col("quotes").cum_sum() - col("quotes")) % 2 == 1)


def split_plain(lines: pl.LazyFrame) -> pl.LazyFrame:
    """Cut the records that have nothing quoted; one field more than there should be tells too long rows."""
    fields = col("line").str.split_exact(",", len(COLUMNS)).struct.rename_fields([*COLUMNS, "further"])
    cut = lines.filter((col("quotes") == 0) & ~col("within") & (col("line") != ""))
    return cut.with_columns(fields.alias("fields")).unnest("fields").select(
        "file", "place", "line", *COLUMNS,
        malformed_quoting=pl.lit(False),
        wrong_field_count=col("note").is_null() | col("further").is_not_null(),
    )  # fmt: skip


def split_quoted(lines: pl.LazyFrame) -> pl.LazyFrame:
    """Join the lines of the other records, and cut them at the commas outside of quotes."""
    fields = ("," + col("line")).str.extract_all("," + FIELD)
    bare = pl.element().str.slice(1).str.strip_prefix('"').str.strip_suffix('"')
    content = bare.str.replace_all('""', '"', literal=True)
    joined = (
        lines.filter((col("quotes") > 0) | col("within"))
        .with_columns(record=(~col("within")).cum_sum())
        .group_by("record")
        .agg(col("file", "place").first(), col("line").str.join("\n"))
    )
    return joined.with_columns(fields=fields.list.eval(content)).select(
        "file", "place", "line",
        *(col("fields").list.get(position, null_on_oob=True).alias(name) for position, name in enumerate(COLUMNS)),
        malformed_quoting=~col("line").str.contains(RECORD),
        wrong_field_count=col("fields").list.len() != len(COLUMNS),
    )  # fmt: skip


def read_parquet(path: Path, file: int) -> pl.LazyFrame:
    """Read a Parquet file, which has no lines; a struct of its columns stands for the raw row."""
    table = pl.scan_parquet(path, row_index_name="place")
    return table.select(
        pl.lit(file, pl.UInt32).alias("file"), col("place").cast(pl.Int64) + (file << 40),
        pl.struct(COLUMNS).alias("line"), *COLUMNS,
        malformed_quoting=pl.lit(False), wrong_field_count=pl.lit(False),
    )  # fmt: skip


def check(rows: pl.LazyFrame, is_csv: bool) -> pl.LazyFrame:
    """Cast the cells and tell for every row which rules it breaks."""
    amount, quantity = col("amount"), col("quantity")
    typed = rows.with_columns(
        ordered_at=col("order_date").str.to_datetime(DATE_FORMAT, time_unit="us", strict=False),
        value=pl.when(amount.str.contains(f"^{AMOUNT}$")).then(amount).cast(MONEY),
        pieces=pl.when(quantity.str.contains(f"^{QUANTITY}$")).then(quantity).cast(pl.Int64),
    )
    broken = {
        "invalid_encoding": col("line").str.contains("\ufffd", literal=True) if is_csv else pl.lit(False),
        "repeated_header": (col("order_id") == "order_id") & (col("customer_id") == "customer_id"),
        "missing_customer_id": col("customer_id").fill_null("").str.strip_chars() == "",
        "unparsable_date": col("ordered_at").is_null(),
        "unparsable_number": col("value").is_null() | col("pieces").is_null(),
        "non_positive_quantity": col("pieces") < 1,
    }
    judged = typed.with_columns(**{name: rule.fill_null(False) for name, rule in broken.items()})
    keep = ("file", "place", "line", "order_id", "customer_id", "ordered_at", "value")
    return judged.select(*keep, *ROW_RULES, passed=~pl.any_horizontal(ROW_RULES))


def find_duplicates(parsed: pl.LazyFrame) -> pl.LazyFrame:
    """Find the rows that repeat an earlier one; few order ids come twice, so only their rows are compared."""
    passed = parsed.filter("passed")
    repeated = passed.group_by("order_id").agg(pl.len()).filter(col("len") > 1)
    return (
        passed.join(repeated, on="order_id", how="semi")
        .sort("place")
        .with_columns(
            exact_duplicate=~col("line").is_first_distinct(),
            duplicate_order_id=~col("order_id").is_first_distinct(),
        )
        .filter("duplicate_order_id")
    )


def reasons(rows: pl.LazyFrame, rules: tuple[str, ...], files: list[str]) -> pl.LazyFrame:
    """Give rejected rows with the names of all rules they break; the first one counts."""
    named = [pl.when(name).then(pl.lit(name)) for name in rules]
    return rows.select(
        pl.lit(pl.Series(files)).gather(col("file")).alias("file"), "line",
        rule=pl.coalesce(named), reasons=pl.concat_list(named).list.drop_nulls(),
    )  # fmt: skip


def customer_metrics(kept: pl.LazyFrame) -> pl.LazyFrame:
    """Aggregate to one row a customer, and rank the customers."""
    grouped = kept.group_by("customer_id").agg(
        order_count=pl.len(),
        total_revenue=col("value").sum(),
        std_order_value=col("value").cast(pl.Float64).std(),
        first_order_at=col("ordered_at").min(),
        last_order_at=col("ordered_at").max(),
    )
    first, last, count = col("first_order_at").dt.date(), col("last_order_at").dt.date(), col("order_count")
    days, idle = (last - first).dt.total_days(), (last.max() - last).dt.total_days()

    def score(value: pl.Expr) -> pl.Expr:
        return (1 + 5 * (value.rank("min").cast(pl.Int64) - 1) // pl.len()).cast(pl.Int8)

    return grouped.with_columns(
        avg_order_value=col("total_revenue").cast(pl.Float64) / count,
        days_active=days,
        avg_days_between_orders=pl.when(count > 1).then(days / (count - 1)),
        days_since_last_order=idle,
        is_churned=idle > CHURN_DAYS,
        cohort_month=first.dt.truncate("1mo"),
        realized_ltv=col("total_revenue"),
        rfm_recency=score(last),
        rfm_frequency=score(count),
        rfm_monetary=score(col("total_revenue")),
    )


def months_since(start: pl.Expr, end: pl.Expr) -> pl.Expr:
    """Count the calendar months from one date to another."""
    return (end.dt.year() - start.dt.year()) * 12 + end.dt.month().cast(pl.Int32) - start.dt.month()


def cohort_metrics(kept: pl.LazyFrame, customers: pl.LazyFrame) -> pl.LazyFrame:
    """Give every cohort its cells, from its first month to the last month of the data."""
    cohort, cell = col("cohort_month"), ["cohort_month", "period_index"]
    active = (
        kept.join(customers.select("customer_id", "cohort_month"), on="customer_id")
        .group_by("customer_id", "cohort_month", period_index=months_since(cohort, col("ordered_at")))
        .agg(col("value").sum())
        .group_by(cell)
        .agg(active_customers=pl.len().cast(pl.Int64), revenue=col("value").sum())
    )
    lasting = months_since(cohort, col("last_order_at"))
    leaving = customers.group_by("cohort_month", period_index=lasting).agg(leaving=pl.len())
    cells = (
        customers.with_columns(periods=months_since(cohort, col("last_order_at").max()) + 1)
        .group_by("cohort_month")
        .agg(cohort_size=pl.len(), period_index=pl.int_range(col("periods").first(), dtype=pl.Int32))
        .explode("period_index")
    )
    filled = cells.join(active, on=cell, how="left").join(leaving, on=cell, how="left").sort(cell)
    filled = filled.with_columns(col("active_customers", "revenue", "leaving").fill_null(0))
    return filled.with_columns(
        retention=col("active_customers") / col("cohort_size"),
        rolling_active_customers=col("leaving").cum_sum(reverse=True).over("cohort_month"),
        cumulative_revenue=col("revenue").cum_sum().over("cohort_month"),
    ).drop("leaving")


def parse(task: Task) -> pl.DataFrame:
    """Read and check all files; raw lines are kept, since any row may yet turn out to be a duplicate."""
    parts = []
    for file, path in enumerate(task.files):
        if task.is_csv:
            lines = read_lines(path, file)
            parts += [split_plain(lines), split_quoted(lines)]
        else:
            parts.append(read_parquet(path, file))
    return check(pl.concat(parts), task.is_csv).collect(engine="streaming")


def run(task: Task) -> Result:
    """Do the job."""
    parsed = parse(task).lazy()
    duplicates = find_duplicates(parsed).collect(engine="streaming").lazy()
    rejected = pl.concat([
        reasons(parsed.filter(~col("passed")), ROW_RULES, task.paths),
        reasons(duplicates, SET_RULES, task.paths),
    ]).collect()  # fmt: skip
    rejected.write_parquet(task.part("rejected"))
    kept = parsed.filter("passed").join(duplicates.select("place"), on="place", how="anti")
    customers = customer_metrics(kept).collect(engine="streaming")
    customers.write_parquet(task.part("customer_metrics"))
    cohort_metrics(kept, customers.lazy()).sink_parquet(task.part("cohort_metrics"), engine="streaming")
    counted = dict(rejected.group_by("rule").len().iter_rows())
    by_rule = {name: counted[name] for name in RULES if name in counted}
    accepted = int(customers["order_count"].sum())
    return Result(f"polars {pl.__version__}", accepted, by_rule, NOTES if task.is_csv else ())


if __name__ == "__main__":
    main(run)
