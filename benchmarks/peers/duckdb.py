"""The job in DuckDB: SQL from the CSV reader with its rejects tables to COPY."""

from typing import Any

import duckdb

from benchmarks.peers.interface import AMOUNT, CHURN_DAYS, COLUMNS, DATE_FORMAT, QUANTITY, RULES, Result, Task, main

RAW = ", ".join(COLUMNS)
NOTES = ("keeps the raw text of a line that is not UTF-8 with ? for the bytes that are not",)
CSV_OPTIONS = """auto_detect = false, header = true, delim = ',', quote = '"', escape = '"', store_rejects = true"""
# Without padding the reader takes further fields for nothing if they are empty. With it, and no text that stands for
# NULL, a NULL is a field that is not there. Padding goes with one thread a file, which costs nothing with many files.
PADDING = "null_padding = true, parallel = false, nullstr = chr(1)"

# All in one table, in the order of the files: its rowid is then the place of a row over all files.
PARSED = f"""
CREATE TABLE parsed AS SELECT *,
    try_strptime(order_date, '{DATE_FORMAT}') AS ordered_at,
    CASE WHEN regexp_full_match(amount, '{AMOUNT}') THEN TRY_CAST(amount AS DECIMAL(18, 4)) END AS value,
    CASE WHEN regexp_full_match(quantity, '{QUANTITY}') THEN TRY_CAST(quantity AS BIGINT) END AS pieces,
    whole AND trim(coalesce(customer_id, '')) <> '' AND ordered_at IS NOT NULL AND value IS NOT NULL
        AND coalesce(pieces >= 1, false) AS passed
FROM """

# Few order ids come twice, so only their rows are ranked, not all.
DUPLICATES = f"""
CREATE TABLE duplicates AS
WITH repeated AS (SELECT order_id FROM parsed WHERE passed GROUP BY order_id HAVING count(*) > 1)
SELECT parsed.rowid AS place, row_number() OVER (PARTITION BY {RAW} ORDER BY parsed.rowid) > 1 AS exact
FROM parsed JOIN repeated USING (order_id) WHERE passed
QUALIFY row_number() OVER (PARTITION BY order_id ORDER BY parsed.rowid) > 1
"""

REJECTED_CELLS = f"""
SELECT file, list_filter([
    CASE WHEN NOT whole THEN 'wrong_field_count' END,
    CASE WHEN order_id = 'order_id' AND customer_id = 'customer_id' THEN 'repeated_header' END,
    CASE WHEN trim(coalesce(customer_id, '')) = '' THEN 'missing_customer_id' END,
    CASE WHEN ordered_at IS NULL THEN 'unparsable_date' END,
    CASE WHEN value IS NULL OR pieces IS NULL THEN 'unparsable_number' END,
    CASE WHEN pieces < 1 THEN 'non_positive_quantity' END
], lambda reason: reason IS NOT NULL) AS reasons, {RAW}
FROM parsed WHERE NOT passed
UNION ALL BY NAME
SELECT file, list_concat(if(exact, ['exact_duplicate'], []), ['duplicate_order_id']) AS reasons, {RAW}
FROM duplicates JOIN parsed ON parsed.rowid = place
"""

# A line may break several rules of the reader; it has one row for each.
REJECTED_LINES = """
UNION ALL BY NAME
SELECT any_value(file_path) AS file, trim(any_value(csv_line), chr(10)) AS line,
    list_distinct(list(CASE error_type
        WHEN 'INVALID ENCODING' THEN 'invalid_encoding'
        WHEN 'TOO MANY COLUMNS' THEN 'wrong_field_count'
        ELSE 'malformed_quoting' END)) AS reasons
FROM reject_errors JOIN reject_scans USING (scan_id, file_id) GROUP BY scan_id, file_id, line
"""

KEPT = """
CREATE VIEW kept AS SELECT customer_id, ordered_at, value FROM parsed
WHERE passed AND rowid NOT IN (SELECT place FROM duplicates)
"""

CUSTOMERS = f"""
CREATE TABLE customers AS
WITH grouped AS (
    SELECT customer_id, count(*) AS order_count, sum(value) AS total_revenue,
        total_revenue::DOUBLE / order_count AS avg_order_value, stddev_samp(value::DOUBLE) AS std_order_value,
        min(ordered_at) AS first_order_at, max(ordered_at) AS last_order_at
    FROM kept GROUP BY customer_id
)
SELECT *, last_order_at::DATE - first_order_at::DATE AS days_active,
    CASE WHEN order_count > 1 THEN days_active / (order_count - 1) END AS avg_days_between_orders,
    max(last_order_at::DATE) OVER () - last_order_at::DATE AS days_since_last_order,
    days_since_last_order > {CHURN_DAYS} AS is_churned,
    date_trunc('month', first_order_at)::DATE AS cohort_month,
    total_revenue AS realized_ltv,
    -- The rank of SQL is one more than the number of strictly worse ones.
    1 + 5 * (rank() OVER (ORDER BY last_order_at::DATE) - 1) // count(*) OVER () AS rfm_recency,
    1 + 5 * (rank() OVER (ORDER BY order_count) - 1) // count(*) OVER () AS rfm_frequency,
    1 + 5 * (rank() OVER (ORDER BY total_revenue) - 1) // count(*) OVER () AS rfm_monetary
FROM grouped
"""

COHORTS = """
WITH cohorts AS (SELECT cohort_month, count(*) AS cohort_size FROM customers GROUP BY cohort_month),
active AS (
    SELECT cohort_month, date_diff('month', cohort_month, ordered_at) AS period_index,
        count(DISTINCT customer_id) AS active_customers, sum(value) AS revenue
    FROM kept JOIN customers USING (customer_id) GROUP BY ALL
),
lasting AS (
    SELECT cohort_month, date_diff('month', cohort_month, last_order_at) AS period_index, count(*) AS leaving
    FROM customers GROUP BY ALL
),
cells AS (
    SELECT cohort_month, cohort_size, unnest(generate_series(0, date_diff('month', cohort_month,
        (SELECT max(last_order_at) FROM customers)))) AS period_index
    FROM cohorts
)
SELECT cohort_month, period_index::INTEGER AS period_index, cohort_size,
    coalesce(active_customers, 0) AS active_customers, coalesce(active_customers / cohort_size, 0) AS retention,
    coalesce(sum(leaving) OVER later, 0)::BIGINT AS rolling_active_customers,
    coalesce(revenue, 0)::DECIMAL(38, 4) AS revenue, coalesce(sum(revenue) OVER earlier, 0) AS cumulative_revenue
FROM cells LEFT JOIN active USING (cohort_month, period_index) LEFT JOIN lasting USING (cohort_month, period_index)
WINDOW earlier AS (PARTITION BY cohort_month ORDER BY period_index),
    later AS (PARTITION BY cohort_month ORDER BY period_index ROWS BETWEEN CURRENT ROW AND UNBOUNDED FOLLOWING)
ORDER BY cohort_month, period_index
"""


def source(task: Task) -> str:
    """Give the table function that reads the input as text, in the order of the files."""
    if not task.is_csv:
        return f"(SELECT *, true AS whole FROM read_parquet({task.paths}, filename = 'file'))"
    columns = ", ".join(f"'{column}': 'VARCHAR'" for column in (*COLUMNS, "further"))
    read = f"read_csv({task.paths}, columns = {{{columns}}}, {CSV_OPTIONS}, {PADDING}, filename = 'file')"
    return f"(SELECT *, note IS NOT NULL AND further IS NULL AS whole FROM {read})"


def rejected_by_rule(connection: duckdb.DuckDBPyConnection) -> dict[str, int]:
    """Count the rejected rows under the first rule each breaks."""
    first = f"list_min(list_transform(reasons, lambda reason: list_position({list(RULES)}, reason)))"
    counted = connection.execute(f"SELECT {first} AS rule, count(*) FROM rejected GROUP BY rule ORDER BY rule")
    return {RULES[rule - 1]: count for rule, count in counted.fetchall()}


def run(task: Task) -> Result:
    """Do the job."""
    settings: dict[str, Any] = {"threads": task.cpus, "temp_directory": str(task.out / "spill")}
    if task.memory:
        settings["memory_limit"] = f"{task.memory}MiB"
    connection = duckdb.connect(config=settings)
    connection.execute(PARSED + source(task))
    connection.execute(DUPLICATES)
    connection.execute(f"CREATE TABLE rejected AS {REJECTED_CELLS} {REJECTED_LINES if task.is_csv else ''}")
    connection.execute(f"COPY rejected TO '{task.part('rejected')}'")
    connection.execute(KEPT)
    connection.execute(CUSTOMERS)
    connection.execute(f"COPY customers TO '{task.part('customer_metrics')}'")
    connection.execute(f"COPY ({COHORTS}) TO '{task.part('cohort_metrics')}'")
    ((accepted,),) = connection.execute("SELECT sum(order_count)::BIGINT FROM customers").fetchall()
    return Result(f"duckdb {duckdb.__version__}", accepted, rejected_by_rule(connection), NOTES if task.is_csv else ())


if __name__ == "__main__":
    main(run)
