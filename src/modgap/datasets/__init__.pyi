from .collection import Collection, Item

__all__ = ["Collection", "Item"]
