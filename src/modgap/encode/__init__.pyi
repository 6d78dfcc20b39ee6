from .encoder import Card, Encoded, Encoder
from .loading import load
from .pictures import as_rgb

__all__ = ["Card", "Encoded", "Encoder", "as_rgb", "load"]
