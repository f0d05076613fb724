"""How Arrow values are stored in DuckDB.

======================  =================  ==============================================
Arrow                   declared           stored as
======================  =================  ==============================================
string                  VARCHAR            text
integers                BIGINT             integer; DECIMAL(20,0) for unsigned ones of 64 bits
bool                    BOOLEAN            boolean
float                   DOUBLE             the same double, NaN and infinities included
date32                  DATE               date
timestamp without zone  TIMESTAMP          timestamp, to the microsecond
decimal128              DECIMAL(38,s)      the same decimal
======================  =================  ==============================================
"""

import sqlalchemy as sa

from daskae.load.sql.columns import TypeNames

TYPES = TypeNames("DuckDB", sa.TEXT(), sa.DOUBLE(), sa.TIMESTAMP(), sa.BOOLEAN(), sa.BIGINT(), sa.DATE())
