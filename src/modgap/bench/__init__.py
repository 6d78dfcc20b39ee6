"""Models times data sets: the paper's experiment and ours, one file a cell, and a page of all."""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
