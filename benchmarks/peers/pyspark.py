"""The job in Spark SQL on one machine, a task a processor.

Quoted line ends need ``multiLine``, with which a file is one task. What is read twice is cached.
"""

from __future__ import annotations

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as fn

from benchmarks.peers.interface import AMOUNT, CHURN_DAYS, COLUMNS, QUANTITY, RULES, Result, Task, main

RAW, QUOTE = ", ".join(COLUMNS), '"'
NOTES = (
    'finds malformed quoting by its look: a field that keeps a quote at its start but not at its end, as "abc"def does',
)
# The reader turns bytes that are not UTF-8 into the replacement character.
CSV_OPTIONS = {
    "header": True,
    "multiLine": True,
    "escape": '"',
    "mode": "PERMISSIVE",
    "columnNameOfCorruptRecord": "line",
}
SETTINGS = {
    "spark.ui.enabled": "false",
    "spark.ui.showConsoleProgress": "false",
    "spark.driver.memory": "4g",
    "spark.sql.session.timeZone": "UTC",
    "spark.sql.timestampType": "TIMESTAMP_NTZ",
    "spark.log.level": "ERROR",
}

# Checks that the code generator knows, as they run on every row; reasons are found for the rejected rows only.
MALFORMED = " OR ".join(f"(startswith({name}, '{QUOTE}') AND NOT endswith({name}, '{QUOTE}'))" for name in COLUMNS)
UNREADABLE = " OR ".join(f"contains({name}, '\ufffd')" for name in COLUMNS)

# A cast reads the time much faster than a format does, but more than one way to write it: hence the LIKE.
PARSED = f"""
SELECT *, coalesce(line IS NULL AND trim(customer_id) <> '' AND ordered_at IS NOT NULL AND value IS NOT NULL
    AND pieces >= 1 AND NOT coalesce({MALFORMED}, false) AND NOT coalesce({UNREADABLE}, false), false) AS passed
FROM (SELECT *,
    CASE WHEN order_date LIKE '____-__-__ __:__:__' THEN try_cast(order_date AS TIMESTAMP_NTZ) END AS ordered_at,
    CASE WHEN amount RLIKE '^{AMOUNT}$' THEN try_cast(amount AS DECIMAL(18, 4)) END AS value,
    CASE WHEN quantity RLIKE '^{QUANTITY}$' THEN try_cast(quantity AS BIGINT) END AS pieces
    FROM source)
"""

# Few order ids come twice, so only their rows are ranked, not all.
DUPLICATES = f"""
SELECT id, file, {RAW}, line, CASE WHEN copies > 1 THEN array('exact_duplicate', 'duplicate_order_id')
    ELSE array('duplicate_order_id') END AS reasons
FROM (SELECT *, row_number() OVER (PARTITION BY order_id ORDER BY file, id) AS uses,
        row_number() OVER (PARTITION BY {RAW} ORDER BY file, id) AS copies
    FROM passed LEFT SEMI JOIN (SELECT order_id FROM passed GROUP BY order_id HAVING count(*) > 1) USING (order_id))
WHERE uses > 1
"""

REJECTED = f"""
SELECT file, {RAW}, line, array_compact(array(
    CASE WHEN {MALFORMED} THEN 'malformed_quoting' END,
    CASE WHEN {UNREADABLE} THEN 'invalid_encoding' END,
    CASE WHEN line IS NOT NULL THEN 'wrong_field_count' END,
    CASE WHEN order_id = 'order_id' AND customer_id = 'customer_id' THEN 'repeated_header' END,
    CASE WHEN coalesce(trim(customer_id), '') = '' THEN 'missing_customer_id' END,
    CASE WHEN ordered_at IS NULL THEN 'unparsable_date' END,
    CASE WHEN value IS NULL OR pieces IS NULL THEN 'unparsable_number' END,
    CASE WHEN pieces < 1 THEN 'non_positive_quantity' END)) AS reasons
FROM parsed WHERE NOT passed
UNION ALL SELECT file, {RAW}, line, reasons FROM duplicates
"""

KEPT = """
SELECT customer_id, ordered_at, value, year(ordered_at) * 12 + month(ordered_at) AS month
FROM passed LEFT ANTI JOIN (SELECT /*+ BROADCAST(duplicates) */ id FROM duplicates) USING (id)
"""

CUSTOMERS = f"""
SELECT *, datediff(last_order_at, first_order_at) AS days_active,
    CASE WHEN order_count > 1 THEN datediff(last_order_at, first_order_at) / (order_count - 1) END
        AS avg_days_between_orders,
    datediff(max(last_order_at) OVER (), last_order_at) AS days_since_last_order,
    datediff(max(last_order_at) OVER (), last_order_at) > {CHURN_DAYS} AS is_churned,
    CAST(trunc(first_order_at, 'month') AS DATE) AS cohort_month,
    total_revenue AS realized_ltv,
    -- The rank of SQL is one more than the number of strictly worse ones.
    1 + 5 * (rank() OVER (ORDER BY CAST(last_order_at AS DATE)) - 1) DIV count(*) OVER () AS rfm_recency,
    1 + 5 * (rank() OVER (ORDER BY order_count) - 1) DIV count(*) OVER () AS rfm_frequency,
    1 + 5 * (rank() OVER (ORDER BY total_revenue) - 1) DIV count(*) OVER () AS rfm_monetary
FROM (SELECT customer_id, count(*) AS order_count, sum(value) AS total_revenue,
        CAST(sum(value) AS DOUBLE) / count(*) AS avg_order_value,
        stddev_samp(CAST(value AS DOUBLE)) AS std_order_value,
        min(ordered_at) AS first_order_at, max(ordered_at) AS last_order_at
    FROM kept GROUP BY customer_id)
"""

COHORTS = """
WITH members AS (
    SELECT customer_id, cohort_month, year(cohort_month) * 12 + month(cohort_month) AS first,
        year(last_order_at) * 12 + month(last_order_at) AS last
    FROM customers
),
active AS (
    SELECT cohort_month, month - first AS period_index, count(*) AS active_customers, sum(revenue) AS revenue
    FROM (SELECT customer_id, month, sum(value) AS revenue FROM kept GROUP BY customer_id, month)
    JOIN members USING (customer_id) GROUP BY cohort_month, month - first
),
leaving AS (
    SELECT cohort_month, last - first AS period_index, count(*) AS leaving
    FROM members GROUP BY cohort_month, last - first
),
cells AS (
    SELECT cohort_month, cohort_size, explode(sequence(0, end - first)) AS period_index
    FROM (SELECT cohort_month, first, count(*) AS cohort_size FROM members GROUP BY cohort_month, first)
    CROSS JOIN (SELECT max(last) AS end FROM members)
)
SELECT cohort_month, period_index, cohort_size, coalesce(active_customers, 0) AS active_customers,
    coalesce(active_customers, 0) / cohort_size AS retention,
    coalesce(sum(leaving) OVER later, 0) AS rolling_active_customers,
    coalesce(revenue, 0) AS revenue, coalesce(sum(revenue) OVER earlier, 0) AS cumulative_revenue
FROM cells LEFT JOIN active USING (cohort_month, period_index) LEFT JOIN leaving USING (cohort_month, period_index)
WINDOW earlier AS (PARTITION BY cohort_month ORDER BY period_index),
    later AS (PARTITION BY cohort_month ORDER BY period_index ROWS BETWEEN CURRENT ROW AND UNBOUNDED FOLLOWING)
"""


def read(spark: SparkSession, task: Task) -> DataFrame:
    """Read the input as text; the id of a row rises within its file."""
    columns = ", ".join(f"{name} STRING" for name in (*COLUMNS, "line"))
    if task.is_csv:
        rows = spark.read.csv(task.paths, schema=columns, **CSV_OPTIONS)
    else:
        rows = spark.read.parquet(*task.paths).withColumn("line", fn.lit(None).cast("string"))
    return rows.select("*", fn.col("_metadata.file_name").alias("file"), fn.monotonically_increasing_id().alias("id"))


def run(task: Task) -> Result:
    """Do the job."""
    own = {"spark.sql.shuffle.partitions": str(2 * task.cpus), "spark.local.dir": str(task.out / "spill")}
    builder = SparkSession.builder.master(f"local[{task.cpus}]").config(map=SETTINGS | own)
    with builder.getOrCreate() as spark:
        read(spark, task).createOrReplaceTempView("source")
        spark.sql(PARSED).cache().createOrReplaceTempView("parsed")
        spark.sql("SELECT * FROM parsed WHERE passed").createOrReplaceTempView("passed")
        spark.sql(DUPLICATES).cache().createOrReplaceTempView("duplicates")
        rejected = spark.sql(REJECTED)
        rejected.write.mode("overwrite").parquet(str(task.table("rejected")))
        spark.sql(KEPT).createOrReplaceTempView("kept")
        customers = spark.sql(CUSTOMERS).cache()
        customers.createOrReplaceTempView("customers")
        customers.write.mode("overwrite").parquet(str(task.table("customer_metrics")))
        spark.sql(COHORTS).coalesce(1).write.mode("overwrite").parquet(str(task.table("cohort_metrics")))
        counted = dict(rejected.groupBy(rejected["reasons"][0]).count().collect())
        accepted = customers.agg(fn.sum("order_count")).first()[0]
        tool = f"pyspark {spark.version}"
    by_rule = {name: counted[name] for name in RULES if name in counted}
    return Result(tool, accepted, by_rule, NOTES if task.is_csv else ())


if __name__ == "__main__":
    main(run)
