"""PostgreSQL: COPY into unlogged tables, advisory locks, exact decimals."""
