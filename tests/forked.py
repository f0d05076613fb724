"""What processes that tests fork have in memory: the fork server imports this once, and its children nothing again.

Nothing here may start threads, since they do not live on in a fork.
"""

import gc
from importlib import import_module

from daskae.report.html import templates

for _name in (
    "pytest",
    "daskae.engine.inline",
    "daskae.load.targets",
    "daskae.load.sql.sink",
    "daskae.load.sql.duckdb.dialect",
    "daskae.load.sql.mariadb.dialect",
    "daskae.load.sql.portable.dialect",
    "daskae.load.sql.postgresql.dialect",
    "daskae.load.sql.sqlite.dialect",
    "daskae.run.ending",
    "daskae.run.job",
    "jobs.customer_metrics",
):
    import_module(_name)
templates().get_template("report.html.j2")
gc.freeze()
