"""Reading and writing embeddings: one file per format, shards as one cloud, nothing unpickled."""

from modgap.io.apply import apply_to_source
from modgap.io.labels import Labels, read_labels, read_strings
from modgap.io.source import Source, open_source, parse_spec, read_array
from modgap.io.writers import write_array

__all__ = [
    "Labels",
    "Source",
    "apply_to_source",
    "open_source",
    "parse_spec",
    "read_array",
    "read_labels",
    "read_strings",
    "write_array",
]
