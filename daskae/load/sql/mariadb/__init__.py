"""MariaDB and MySQL: rows in large INSERT statements, GET_LOCK, DDL around the transaction."""
