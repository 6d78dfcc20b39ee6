from .collection import Collection, Item
from .lines import Lines
from .opening import KINDS, open_collection
from .prompts import class_texts, read_classes, read_paraphrases, read_templates

__all__ = [
    "KINDS",
    "Collection",
    "Item",
    "Lines",
    "class_texts",
    "open_collection",
    "read_classes",
    "read_paraphrases",
    "read_templates",
]
