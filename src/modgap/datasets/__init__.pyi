from .collection import Collection, Item
from .lines import Lines

__all__ = ["Collection", "Item", "Lines"]
