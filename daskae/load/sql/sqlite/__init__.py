"""SQLite: one file, one writer, and no exact decimals."""
