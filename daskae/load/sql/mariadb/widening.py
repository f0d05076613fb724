"""Types of MariaDB's columns, in place.

Each ALTER commits by itself, before the load is published. So every statement leaves a column that holds all it held,
and from which the next run goes on; a load that fails leaves the column wide. Whole numbers of 19 digits become
doubles by way of decimals of 15: the server refuses that step where a number has more, which no look beforehand could
promise, as others may write meanwhile.

MODIFY takes the whole declaration of a column, so that is what the server shows of it, with another type in front.
"""

import re

import sqlalchemy as sa

from daskae.load.sql.ddl import quoted_name, quoted_table
from daskae.load.sql.dialect import Existing, FoundColumn, Session
from daskae.load.sql.digits import digits_of, has_beyond, holds, wider_decimal
from daskae.load.sql.drift import Widening

_SIGNED = {"tinyint": 3, "smallint": 5, "mediumint": 7, "int": 10, "bigint": 19}
_WHOLE = {**_SIGNED, **{f"{name} unsigned": digits for name, digits in _SIGNED.items()}}
_WHOLE |= {"mediumint unsigned": 8, "bigint unsigned": 20}
_WIDTH = re.compile(r"^(?!tinyint\(1\))([a-z]*int)\(\d+\)")  # of what is shown; tinyint(1) is a boolean
_MOST_DIGITS, _MOST_SCALE = 65, 38
_EXACT = 15
"""So many digits are the same in a double."""
_SHORT_TEXTS = ("tinytext", "text", "mediumtext")

_OBSTACLES = """SELECT CONCAT('foreign key ', constraint_name) FROM information_schema.key_column_usage
        WHERE table_schema = DATABASE() AND table_name = :table AND column_name = :column
        AND referenced_table_name IS NOT NULL
    UNION ALL SELECT CONCAT('foreign key ', constraint_name) FROM information_schema.key_column_usage
        WHERE referenced_table_schema = DATABASE() AND referenced_table_name = :table
        AND referenced_column_name = :column
    UNION ALL SELECT CONCAT('the generated column ', column_name) FROM information_schema.columns
        WHERE table_schema = DATABASE() AND table_name = :table AND LOCATE(:column, generation_expression) > 0
    UNION ALL SELECT 'its AUTO_INCREMENT' FROM information_schema.columns
        WHERE table_schema = DATABASE() AND table_name = :table AND column_name = :column
        AND extra LIKE '%auto_increment%' AND :kind <> 'BIGINT'
    UNION ALL SELECT DISTINCT 'the partitions of the table' FROM information_schema.partitions
        WHERE table_schema = DATABASE() AND table_name = :table AND partition_method IS NOT NULL
    UNION ALL SELECT 'the history of a system-versioned table' FROM information_schema.tables
        WHERE table_schema = DATABASE() AND table_name = :table AND table_type = 'SYSTEM VERSIONED' ORDER BY 1"""


def widen(session: Session, table: Existing, column: FoundColumn, wanted: str) -> Widening | None:
    """Say how a column comes to hold more; None where that is not safe."""
    steps = wider_types(column.type, wanted)
    if not steps:
        return None
    kind = steps[-1]
    values = {"table": table.name, "column": column.name, "kind": kind}
    found = list(session.connection.execute(sa.text(_OBSTACLES), values).scalars())
    obstacle = f"these depend on its type: {', '.join(found)}" if found else ""
    if len(steps) > 1 and has_beyond(session, table.name, column.name, 10**_EXACT - 1):
        obstacle = f"it holds whole numbers beyond {10**_EXACT - 1}"
    name, quoted = quoted_table(session.dialect, session.table(table.name)), quoted_name(session.dialect, column.name)
    created = session.connection.exec_driver_sql(f"SHOW CREATE TABLE {name}".replace("%", "%%")).one()[1]
    start = f"  {quoted} {column.type.partition(' collate ')[0]}"
    rests = [line.removeprefix(start) for line in str(created).split("\n") if line.startswith(start)]
    if len(rests) != 1 or "\n" in column.name:
        return Widening(kind, (), "its declaration cannot be found in what the server shows of the table")
    rest = rests[0].removesuffix(",")
    return Widening(kind, tuple(f"ALTER TABLE {name} MODIFY COLUMN {quoted} {step}{rest}" for step in steps), obstacle)


def wider_types(found: str, wanted: str) -> tuple[str, ...]:
    """Return the types that a column goes through to hold all values of another type; none where that is not safe."""
    found, wanted = _WIDTH.sub(r"\1", found.lower()), wanted.lower()
    theirs = digits_of(found, _WHOLE)
    if wanted.startswith("longtext"):
        kind, _, collation = found.partition(" collate ")
        return ("LONGTEXT",) if kind in _SHORT_TEXTS and wanted.endswith(f" collate {collation}") else ()
    if wanted.startswith("datetime"):
        return ("DATETIME(6)",) if found == "date" or re.fullmatch(r"datetime(\([0-5]\))?", found) else ()
    if wanted == "bigint":
        return ("BIGINT",) if holds((18, 0), theirs) else ()
    if wanted == "double":
        if found == "float" or holds((_EXACT, 0), theirs):
            return ("DOUBLE",)
        return (f"DECIMAL({_EXACT},0)", "DOUBLE") if found in _WHOLE else ()
    wider = wider_decimal(digits_of(wanted, {}), theirs, _MOST_DIGITS)
    return (wider,) if wider is not None and holds((_MOST_DIGITS, _MOST_SCALE), digits_of(wider, {})) else ()
