from .cache import embed_cached
from .class_texts import embed_classes
from .encoder import Card, Encoded, Encoder
from .ensembles import encode_classes, encode_ensemble, ensemble
from .job import Embedded, embed
from .loading import load
from .pictures import as_rgb

__all__ = [
    "Card",
    "Embedded",
    "Encoded",
    "Encoder",
    "as_rgb",
    "embed",
    "embed_cached",
    "embed_classes",
    "encode_classes",
    "encode_ensemble",
    "ensemble",
    "load",
]
