"""Exact, resumable customer analytics over order files of any size and dirt, on Dask.

Start reading at :mod:`daskae.pipeline`.
"""

__version__ = "0.1.0"
