"""What a run shows and remembers of itself: listeners of its events, and the memory of this process.

Nothing here knows Dask.
"""

from daskae.monitor.own_code import MemoryMonitor, memory_monitor

__all__ = ["MemoryMonitor", "memory_monitor"]
