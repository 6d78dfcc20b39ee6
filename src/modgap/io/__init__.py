"""Reading and writing embeddings: one file per format, shards as one cloud, nothing unpickled."""
