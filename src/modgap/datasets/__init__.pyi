from .collection import Collection, Item
from .lines import Lines
from .opening import KINDS, open_collection

__all__ = ["KINDS", "Collection", "Item", "Lines", "open_collection"]
