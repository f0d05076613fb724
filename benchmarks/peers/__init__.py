"""The same job, once a module, as an expert in each tool would write it.

Every module here stands alone: it imports its own tool and :mod:`benchmarks.peers.interface`, which needs nothing but
the standard library, so that a peer can also run under an interpreter of its own.
"""
