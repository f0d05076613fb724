"""Keep freed memory for the next batch instead of giving it back to the system at once.

Batches of a few megabytes come and go thousands of times. With default settings every allocator on the way (the C
library's, Polars' and Arrow's) returns pages in between, and fetching them again is two thirds of all page faults and
about a tenth of a run's time (measured on generated orders). What is kept is bounded by the peak and given back after
two seconds of rest.
"""

import os
import sys

ALLOCATOR_ENVIRONMENT = {
    "_RJEM_MALLOC_CONF": "dirty_decay_ms:2000,muzzy_decay_ms:2000",
    "MIMALLOC_PURGE_DELAY": "2000",
    "MALLOC_MMAP_THRESHOLD_": str(1 << 30),
    "MALLOC_TRIM_THRESHOLD_": str(1 << 29),
}
"""For processes to be started; the libraries look at it when they are loaded."""

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3


def tune_allocators() -> None:
    """Tune this process; to be called before Polars and Arrow are imported. What the user has set stays."""
    for name, value in ALLOCATOR_ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    if sys.platform == "linux":
        import ctypes

        try:
            library = ctypes.CDLL(None)
            library.mallopt(_M_MMAP_THRESHOLD, 1 << 30)
            library.mallopt(_M_TRIM_THRESHOLD, 1 << 29)
        except (OSError, AttributeError):
            return  # another C library; nothing is lost but speed
