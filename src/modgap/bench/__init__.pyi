from .cells import Cell, run
from .suite import DataSet, Suite, read_suite

__all__ = ["Cell", "DataSet", "Suite", "read_suite", "run"]
