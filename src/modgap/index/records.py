"""What a study of indexes found: frozen records, and their figures with errors."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from modgap._core.json import plain, stamp

__all__ = ["DEPTHS", "CodecRow", "Effort", "IndexStudy", "standard_error"]

#: Depths at which recall is counted.
DEPTHS = (1, 10, 100)
#: The recall of the exact ten nearest at which work is compared.
TARGET = 0.9
_RESAMPLES = 200

#: By depth ("1", "10", "100") the share found for each query, (m,).
Shares = Mapping[str, np.ndarray]


def standard_error(values: np.ndarray) -> float:
    """Return the standard error of a mean over queries; NaN for a single query."""
    return float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else float("nan")


@dataclass(frozen=True, eq=False)
class Effort:
    """One setting of work of a graph or of inverted lists, searched for ten.

    Attributes
    ----------
    effort : int
        `efSearch`, `nprobe`, or what the engine calls it.
    shares : ndarray (m,)
        Share of the exact ten nearest that is found, query by query.
    seconds : float
        Wall time a query.
    computations : float or None
        Distance computations a query, where the engine counts them.
    """

    effort: int
    shares: np.ndarray
    seconds: float
    computations: float | None

    def to_dict(self) -> dict[str, Any]:
        """Return its figures, without per-query arrays."""
        return {
            "effort": self.effort,
            "recall": float(self.shares.mean()),
            "recall_stderr": standard_error(self.shares),
            "seconds": self.seconds,
            "computations": self.computations,
        }


@dataclass(frozen=True, eq=False)
class CodecRow:
    """What one codec finds on rows under one map.

    Attributes
    ----------
    engine, codec, map : str
        Codec and map are empty where the engine's package is absent.
    bytes_per_vector : float or None
        Of the codes that searches read, links of a graph left out.
    build_seconds : float or None
        To train, and add all rows.
    seconds, computations : float or None
        A query, at the most work, as deep as rescoring asks.
    found : dict
        By oversampling ("1": none, "2": twice as many, rescored on the floats) the share of the exact
        float answers among the first 1, 10 and 100, query by query.
    right : dict or None
        By depth, whether an answer by the labels is among the first; without rescoring.
    own : dict or None
        `found` of queries of the gallery's own kind, without rescoring.
    sweep, own_sweep : tuple of Effort
        Empty where the index has no setting of work.
    shared : bool
        Whether the index was built for another map that leaves the gallery alone too.
    failed : str or None
        Why there are no figures.
    notes : tuple of str
        What the engine warned of.
    """

    engine: str
    codec: str
    map: str
    bytes_per_vector: float | None = None
    build_seconds: float | None = None
    seconds: float | None = None
    computations: float | None = None
    found: Mapping[str, Shares] = field(default_factory=dict)
    right: Shares | None = None
    own: Shares | None = None
    sweep: tuple[Effort, ...] = ()
    own_sweep: tuple[Effort, ...] = ()
    shared: bool = False
    failed: str | None = None
    notes: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """The codec as it is asked for: ENGINE:CODEC."""
        return f"{self.engine}:{self.codec}" if self.codec else self.engine

    @property
    def recall(self) -> dict[str, float]:
        """By depth the share of the exact float answers that is found, without rescoring."""
        return self.recall_after(1)

    def recall_after(self, factor: int) -> dict[str, float]:
        """Return recall by depth of `factor` times as many candidates, rescored on the floats."""
        return {k: float(each.mean()) for k, each in self.found.get(str(factor), {}).items()}

    def work_at(
        self, target: float = TARGET, *, own: bool = False, chosen: np.ndarray | None = None
    ) -> float | None:
        """Return the work a query for a mean recall of the ten nearest, interpolated between settings.

        Work is distance computations where the engine counts them, else seconds. None where the most
        work finds less. Where the least setting finds more, its work: no less can be asked for.

        Parameters
        ----------
        target : float
        own : bool
            Of queries of the gallery's own kind.
        chosen : ndarray of int, optional
            Queries to count, with repetitions: to resample.
        """
        sweep = self.own_sweep if own else self.sweep
        work = [one.computations if self.counted else one.seconds for one in sweep]
        return _price_at(sweep, work, target, chosen)

    def effort_at(
        self, target: float = TARGET, *, chosen: np.ndarray | None = None
    ) -> float | None:
        """Return the setting of work for a mean recall of the ten nearest, as `work_at`."""
        return _price_at(self.sweep, [one.effort for one in self.sweep], target, chosen)

    @cached_property
    def counted(self) -> bool:
        """Whether work is distance computations rather than time."""
        return bool(self.sweep) and all(one.computations is not None for one in self.sweep)

    def work_over(self, other: CodecRow, target: float = TARGET) -> tuple[float, float] | None:
        """Return the work over that of another row, and its error by resampling the queries.

        Where distances are not counted it is the effort over the other's: times say more of the machine.
        """
        price = CodecRow.work_at if self.counted and other.counted else CodecRow.effort_at
        work, bare = price(self, target), price(other, target)
        if work is None or bare is None:
            return None
        rng = np.random.default_rng(0)
        count = len(self.sweep[0].shares)
        ratios = []
        for _ in range(_RESAMPLES):
            chosen = rng.integers(count, size=count)
            mine, its = (price(row, target, chosen=chosen) for row in (self, other))
            if mine is not None and its is not None:
                ratios.append(mine / its)
        error = float(np.std(ratios)) if len(ratios) > _RESAMPLES / 2 else float("nan")
        return work / bare, error

    def to_dict(self) -> dict[str, Any]:
        """Return the figures as a plain dict, without per-query arrays."""
        rescored = {
            factor: {**_summary("recall", shares)}
            for factor, shares in self.found.items()
            if factor != "1"
        }
        return {
            "engine": self.engine,
            "codec": self.codec,
            "map": self.map,
            "bytes_per_vector": self.bytes_per_vector,
            "build_seconds": self.build_seconds,
            "shared": self.shared,
            "seconds": self.seconds,
            "computations": self.computations,
            **_summary("recall", self.found.get("1")),
            "rescored": rescored,
            **_summary("right", self.right),
            **_summary("own_kind", self.own),
            "efforts": [one.to_dict() for one in self.sweep],
            "own_kind_efforts": [one.to_dict() for one in self.own_sweep],
            "work": {
                "counted": self.counted,
                "recall": TARGET,
                "effort": self.effort_at(),
                "queries": self.work_at(),
                "own_kind": self.work_at(own=True),
            }
            if self.sweep
            else None,
            "failed": self.failed,
            "notes": list(self.notes),
        }

    def __repr__(self) -> str:
        what = self.failed or f"recall@10={self.recall.get('10', float('nan')):.3f}"
        return f"CodecRow({self.label!r}, {self.map!r}, {what})"


@dataclass(frozen=True, eq=False)
class IndexStudy:
    """What indexes find of the exact answers, by codec and map.

    Attributes
    ----------
    rows : tuple of CodecRow
    setting : dict
        Counts, metric, depths, seed: what it takes to get the same figures again.

    Examples
    --------
    >>> from modgap import index, load_sample
    >>> sample = load_sample()
    >>> texts = sample.texts.reshape(-1, 128)
    >>> found = index.study(texts, sample.images, codecs=["faiss:SQ4"], maps=["none", "balanced"])
    >>> found["faiss:SQ4", "none"].bytes_per_vector
    64.0
    """

    rows: tuple[CodecRow, ...]
    setting: dict[str, Any] = field(default_factory=dict)

    def __getitem__(self, key: tuple[str, str]) -> CodecRow:
        """Return the row of a codec, as ENGINE:CODEC, and a map."""
        for row in self.rows:
            if (row.label, row.map) == tuple(key):
                return row
        labels = ", ".join(dict.fromkeys(row.label for row in self.rows))
        maps = ", ".join(self.maps)
        raise KeyError(f"the study has no row {key!r}; codecs: {labels}; maps: {maps}")

    def __iter__(self) -> Iterator[CodecRow]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def maps(self) -> tuple[str, ...]:
        """The maps that have rows, in the order asked for."""
        return tuple(dict.fromkeys(row.map for row in self.rows if row.map))

    @property
    def done(self) -> tuple[CodecRow, ...]:
        """The rows that have figures."""
        return tuple(row for row in self.rows if row.failed is None)

    @cached_property
    def text(self) -> tuple[str, ...]:
        """What it comes to, a sentence or two each; only what is said beyond the error."""
        from modgap.index.words import sentences

        return tuple(sentences(self))

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON-able record, without per-query arrays; docs/reference/json.md has its names."""
        found: dict[str, Any] = plain(
            {
                **stamp(),
                "text": self.text,
                "setting": self.setting,
                "rows": [row.to_dict() for row in self.rows],
            }
        )
        return found

    def to_json(self) -> str:
        """Return the record as one JSON document; absent figures are null."""
        return json.dumps(self.to_dict(), indent=2, allow_nan=False)

    def table(self) -> list[dict[str, Any]]:
        """Return flat rows, one per codec and map."""
        return [_flat(row) for row in self.rows]

    def to_frame(self) -> Any:
        """Return `table()` as a pandas DataFrame.

        Raises
        ------
        MissingExtraError
            pandas is not installed.
        """
        from modgap._core.extras import require

        return require("pandas", "frame").DataFrame(self.table())

    def __repr__(self) -> str:
        codecs = len(dict.fromkeys(row.label for row in self.rows))
        return f"IndexStudy({codecs} codecs, maps: {', '.join(self.maps)})"


def _price_at(
    sweep: Sequence[Effort],
    prices: Sequence[float | None],
    target: float,
    chosen: np.ndarray | None,
) -> float | None:
    """Return what a mean recall costs, interpolated between settings; None where none reaches it."""
    if not sweep:
        return None
    shares = [one.shares if chosen is None else one.shares[chosen] for one in sweep]
    recall = np.maximum.accumulate([each.mean() for each in shares])
    if recall[-1] < target:
        return None
    return float(np.interp(target, recall, np.asarray(prices, dtype=np.float64)))


def _summary(name: str, shares: Shares | None) -> dict[str, Any]:
    if shares is None:
        return {name: None, f"{name}_stderr": None}
    return {
        name: {k: float(each.mean()) for k, each in shares.items()},
        f"{name}_stderr": {k: standard_error(each) for k, each in shares.items()},
    }


def _flat(row: CodecRow) -> dict[str, Any]:
    found = plain(row.to_dict())
    flat: dict[str, Any] = {}
    for name, value in found.items():
        if name == "rescored":
            for factor, figures in value.items():
                flat |= {f"recall_{k}_rescored_{factor}": v for k, v in figures["recall"].items()}
        elif name == "work":
            flat |= {f"work_{k}": v for k, v in (value or {}).items() if k != "recall"}
        elif name in ("efforts", "own_kind_efforts"):
            continue
        elif isinstance(value, Mapping):
            flat |= {f"{name}_{k}": v for k, v in value.items()}
        elif isinstance(value, Sequence) and not isinstance(value, str):
            flat[name] = "; ".join(value)
        else:
            flat[name] = value
    return flat
