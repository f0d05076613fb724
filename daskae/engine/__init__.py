"""Where tasks run; the only place that knows Dask."""
