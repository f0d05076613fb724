"""Parquet files as a target: a local folder, or an object store."""
