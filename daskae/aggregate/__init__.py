"""Orders in, states and metrics out.

>>> from daskae.aggregate import metric
"""

from daskae.aggregate.aggregation import Aggregation, Facts, FrameMetric, Metric, State, metric

__all__ = ["Aggregation", "Facts", "FrameMetric", "Metric", "State", "metric"]
