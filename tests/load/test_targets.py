from pathlib import Path

import pytest

from daskae.errors import SettingsError
from daskae.load.failures import mask_secrets
from daskae.load.parquet.remote import RemoteParquetSink
from daskae.load.parquet.sink import ParquetSink
from daskae.load.sql.sink import SqlSink
from daskae.load.targets import open_sink

from .building import A, build_load, shop


@pytest.mark.parametrize(
    ("url", "sink"),
    [
        ("sqlite:///metrics.db", SqlSink),
        ("sqlite+pysqlite:////tmp/metrics.db", SqlSink),
        ("postgresql://user:sesame@host/db?schema=sales", SqlSink),
        ("postgresql+psycopg://host/db", SqlSink),
        ("postgres://host/db", SqlSink),
        ("mariadb://user:sesame@host:3307/db", SqlSink),
        ("mysql+pymysql://host/db", SqlSink),
        ("duckdb:///metrics.duckdb", SqlSink),
        ("portable+sqlite:///metrics.db", SqlSink),
        ("out/", ParquetSink),
        ("out", ParquetSink),
        ("./deep/out", ParquetSink),
        ("/tmp/out", ParquetSink),
        ("~/out", ParquetSink),
        ("out:1", ParquetSink),
        ("metrics.db/", ParquetSink),
        ("file:///tmp/out", ParquetSink),
        ("memory://bucket/out", RemoteParquetSink),
    ],
)
def test_the_url_tells_the_sink(url: str, sink: type) -> None:
    assert isinstance(open_sink(url), sink)


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("", "target is empty"),
        ("  ", "target is empty"),
        ("metrics.db", r"looks like a database file(.|\n)*write sqlite:///metrics\.db"),
        ("sqlite:metrics.db", "next"),
        ("sqlite://metrics.db", "three slashes"),
        ("sqlite://", "names no file"),
        ("sqlite:///:memory:", "names no file"),
        ("sqlite:///x.db?mode=ro", "no options"),
        ("sqlite+pysqlcipher://:sesame@/x.db", "no other driver"),
        ("mssql+pyodbc://user:sesame@host/db", r"driver that is not installed(.|\n)*user:\*\*\*@host(.|\n)*install it"),
        ("portable+oracle://user:sesame@host/db", "driver that is not installed"),
        ("portable+sqlite+aiosqlite:///x.db", "asyncio"),
        ("portable+nonsense://user:sesame@host/db", "not supported"),
        ("mysql+mysqldb://user:sesame@host/db", "no other driver than PyMySQL"),
        ("mariadb://user:sesame@host", "names no database"),
        ("mariadb://user:sesame@host:port/db", "cannot be read"),
        ("duckdb://metrics.duckdb", "three slashes"),
        ("duckdb:///:memory:", "names no file"),
        ("metrics.duckdb", r"looks like a database file(.|\n)*write duckdb:///metrics\.duckdb"),
        ("nonsense://user:sesame@host/db", "not supported"),
        ("https://host/out", "not supported"),
        ("hdfs://user:sesame@host/db", "file system of the target cannot be opened"),
    ],
)
def test_what_is_no_target_is_a_settings_error_without_secrets(url: str, text: str) -> None:
    with pytest.raises(SettingsError, match=text) as caught:
        open_sink(url)
    assert "sesame" not in f"{caught.value}{caught.value.__cause__}"
    assert caught.value.allowed.startswith("sqlite:///")


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("s3://key:sesame@bucket/x", "s3://key:***@bucket/x"),
        ("s3://:sesame@bucket", "s3://:***@bucket"),
        ("ftp://user:s/es?a#m@e@host/x", "ftp://user:***@host/x"),
        ("cannot open ftp://user:sesame@host/x, gave up", "cannot open ftp://user:***@host/x, gave up"),
        ("s3://bucket/x?Secret_Key=sesame&region=eu", "s3://bucket/x?Secret_Key=***&region=eu"),
        ("s3://bucket:9000/x", "s3://bucket:9000/x"),
        ("out/a:b@c", "out/a:b@c"),
    ],
)
def test_passwords_are_masked_wherever_they_stand(text: str, masked: str) -> None:
    assert mask_secrets(text) == masked


def test_a_relative_path_is_fixed_when_the_sink_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    sinks = [open_sink("sqlite:///metrics.db"), open_sink("out")]
    monkeypatch.chdir("/")
    for sink in sinks:
        sink.publish(build_load(tmp_path / "parts", A, shop("north")))
    assert (tmp_path / "metrics.db").is_file()
    assert (tmp_path / "out/kpis").is_dir()
