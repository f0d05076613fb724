"""Rows in, good rows, rejected rows and rule states out.

>>> from daskae.validate import RowRule, TableRule
"""

from daskae.validate.custom import RowRule, TableRule

__all__ = ["RowRule", "TableRule"]
