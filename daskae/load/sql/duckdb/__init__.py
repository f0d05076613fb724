"""DuckDB: one writer, Arrow tables copied in as they are, and a dialect for SQLAlchemy of our own."""
