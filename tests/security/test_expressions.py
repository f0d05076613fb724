"""The grammar of expressions is closed: columns, literals and functions of one row, and no way out of it."""

import polars as pl
import pytest

from daskae.errors import SettingsError
from daskae.schema import sql_expression

ESCAPES = [
    "__import__('os').system('id')",
    "().__class__.__bases__[0].__subclasses__()",
    "lambda: 1",
    "open('/etc/passwd').read()",
    "exec('x')",
    "eval('1+1')",
    "os.system('id')",
    "[x for x in range(9)]",
    "{{7*7}}",
    "${7*7}",
    "amount; DROP TABLE customers",
    "amount; SELECT 1",
    "SELECT * FROM t",
    "(SELECT 1)",
    "(SELECT amount FROM orders)",
    "amount IN (SELECT amount FROM orders)",
    "EXISTS (SELECT 1)",
    "amount UNION SELECT 1",
    "INSERT INTO t VALUES (1)",
    "UPDATE t SET a = 1",
    "DELETE FROM t",
    "DROP TABLE t",
    "CREATE TABLE t (a INT)",
    "COPY t TO '/tmp/x'",
    "ATTACH DATABASE 'x' AS y",
    "PRAGMA writable_schema = 1",
    "LOAD_EXTENSION('x.so')",
    "load_file('/etc/passwd')",
    "pg_read_file('/etc/passwd')",
    "pg_sleep(10)",
    "read_csv('/etc/passwd')",
    "read_parquet('x.parquet')",
    "scan_csv('x.csv')",
    "read_json('x')",
    "read_ipc('x')",
    "read_text('/etc/passwd')",
    "xp_cmdshell('id')",
    "system('id')",
    "shell('id')",
    "getenv('HOME')",
    "current_setting('x')",
    "version()",
    "SUM(amount)",
    "COUNT(*)",
    "AVG(amount) OVER ()",
    "ROW_NUMBER() OVER (ORDER BY amount)",
    "FIRST(amount)",
    "MAX(amount)",
    "*",
    "COLUMNS('.*')",
    "COLUMNS('^.*$')",
    "orders.*",
    "amount AS total",
    "/* c */ amount; --",
    ":name",
    "?",
    "$1",
    "BENCHMARK(1000000, MD5(1))",
    "REPEAT('x', 1000000000)",
    "random()",
    "RAND()",
    "NOW()",
    "CURRENT_TIMESTAMP",
    "CURRENT_DATE",
    "UNNEST(amount)",
    "explode(amount)",
    "STRUCT(1)",
    '"^.*$"',
    "'a' || (SELECT 'b')",
    "CASE WHEN 1 THEN (SELECT 1) END",
    "VALUES (1)",
    "WITH x AS (SELECT 1) SELECT * FROM x",
    "TABLE t",
    "EXPLAIN amount",
    "SHOW TABLES",
    "SET x = 1",
    "DO $$ BEGIN END $$",
    "CALL f()",
    "amount::regclass",
    "CAST(amount AS regclass)",
]
HARMLESS = ["amount -- a comment", "amount /* c */", "now + 1", "'now()' || note", '"current_date"', "@@version"]


@pytest.mark.parametrize("text", ESCAPES)
def test_escapes_are_refused(text: str) -> None:
    with pytest.raises(SettingsError, match=r"expression(.|\n)*columns\.amount"):
        sql_expression(text, "columns.amount")


def test_there_are_many() -> None:
    assert len(ESCAPES) > 70


@pytest.mark.parametrize("text", HARMLESS)
def test_what_only_looks_like_one_names_columns(text: str) -> None:
    assert sql_expression(text, "columns.amount").meta.root_names()


@pytest.mark.parametrize("text", ["amount.__class__", "note.__globals__"])
def test_attributes_are_fields_of_a_structure_and_there_is_none(text: str) -> None:
    expression = sql_expression(text, "columns.amount")
    with pytest.raises(pl.exceptions.PolarsError, match=r"struct|^__\w+__$"):
        pl.DataFrame({"amount": [1], "note": ["x"]}).select(expression)
