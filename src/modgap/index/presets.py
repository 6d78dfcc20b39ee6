"""Codecs by the names that people use: one table."""

from __future__ import annotations

__all__ = ["PRESETS"]

#: What a name stands for: an engine, and a codec of it.
PRESETS: dict[str, tuple[str, str]] = {
    "faiss-flat": ("faiss", "flat"),
    "faiss-fp16": ("faiss", "fp16"),
    "faiss-sq8": ("faiss", "SQ8"),
    "faiss-sq6": ("faiss", "SQ6"),
    "faiss-sq4": ("faiss", "SQ4"),
    "faiss-pq64": ("faiss", "PQ64"),
    "faiss-opq64": ("faiss", "OPQ64,PQ64"),
    "faiss-rabitq": ("faiss", "RaBitQ"),
    "faiss-1bit": ("faiss", "1bit"),
    "faiss-hnsw": ("faiss", "HNSW16"),
    "faiss-ivf": ("faiss", "IVF"),
    "usearch-f32": ("usearch", "f32"),
    "usearch-bf16": ("usearch", "bf16"),
    "usearch-f16": ("usearch", "f16"),
    "usearch-i8": ("usearch", "i8"),
    "usearch-e5m2": ("usearch", "e5m2"),
    "usearch-b1": ("usearch", "b1"),
    "usearch-hnsw": ("usearch", "HNSW,f32"),
    "hnswlib": ("hnswlib", "f32"),
    "lancedb-ivf-pq": ("lancedb", "IVF_PQ"),
    "lancedb-ivf-sq": ("lancedb", "IVF_SQ"),
    "lancedb-ivf-rq": ("lancedb", "IVF_RQ"),
    "lancedb-hnsw-sq": ("lancedb", "HNSW_SQ"),
    "qdrant-float": ("qdrant", "float"),
    "qdrant-scalar": ("qdrant", "scalar"),
    "qdrant-binary": ("qdrant", "binary"),
    "qdrant-product": ("qdrant", "product"),
    "qdrant-turbo": ("qdrant", "turbo:1"),
    "qdrant-hnsw": ("qdrant", "HNSW,float"),
    "pgvector": ("pgvector", "HNSW,vector"),
    "pgvector-vector": ("pgvector", "vector"),
    "pgvector-halfvec": ("pgvector", "halfvec"),
    "pgvector-bit": ("pgvector", "bit"),
    "pgvector-hnsw": ("pgvector", "HNSW,vector"),
    "pgvector-ivf": ("pgvector", "IVF,vector"),
}
