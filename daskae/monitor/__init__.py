"""What a run shows and remembers of itself: listeners of its events, and the memory of this process.

Nothing here knows Dask.
"""
