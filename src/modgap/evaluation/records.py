"""What a study found: frozen records, per query where there is something per query."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from modgap._core.checks import check_count, check_number
from modgap._core.json import plain, stamp
from modgap.closers.closure import Closure
from modgap.errors import ArgumentError, CodeError
from modgap.evaluation._merged import Merged
from modgap.evaluation.results import GapFigures, NoiseResult
from modgap.measures import Remark
from modgap.robustness.noise import Noise, parse

__all__ = ["GapFigures", "NoiseResult", "Row", "Study"]


@dataclass(frozen=True, eq=False)
class Row:
    """One closer on one problem.

    Attributes
    ----------
    problem : str
    closure : Closure
        Fitted to all rows: the one to save. A row that is `held_out` was judged with others.
    exact : bool
        Whether the promise holds here: the closure's bound lies below every margin that is no tie,
        and no answer but ties changed.
    changed, ties : int
        Answers that changed although the difference of their scores exceeds the closure's
        resolution; and that changed between items which no product of these rows can tell apart.
    decisions, before : ndarray (m,)
        Noise-free decisions after closing, and before.
    right : ndarray (m,) of bool, or None
        Whether the decision after closing is right.
    gap_after : float
        Distance of the means after the maps, in whatever space these lead to.
    enlarges : float or None
        How many times as far from their mean the items are stored as they were, root mean squares. Noise
        of a fixed size is so much smaller beside them: it flatters a closer that enlarges; compare under
        noise relative to what is stored. None where all items are one.
    recall : mapping of str to float, or None
        Share of queries with a right item among the k nearest, for retrieval.
    kept : mapping of str to float, or None
        Share of the exact k nearest items before closing that are among the k nearest after it,
        noise-free; where a code is among the noises.
    folds : int
        Parts of the queries, each judged by closures that were fitted to the others; 0 where the
        closer is judged on the rows it was fitted to, because it cannot gain by that.
    notes : tuple of str
        What the fit warned of.
    results : tuple of NoiseResult
    merged : Merged or None
        Of a mixed collection: what its merged list holds, query by query.
    """

    problem: str
    closure: Closure
    exact: bool
    changed: int
    ties: int
    decisions: np.ndarray
    before: np.ndarray
    right: np.ndarray | None
    gap_after: float
    enlarges: float | None
    recall: Mapping[str, float] | None
    kept: Mapping[str, float] | None
    folds: int
    notes: tuple[str, ...]
    results: tuple[NoiseResult, ...]
    merged: Merged | None = None

    @property
    def method(self) -> str:
        """Name of the closer."""
        return self.closure.method

    @property
    def alpha(self) -> float | None:
        """Share of the gap that is closed."""
        return self.closure.alpha

    @property
    def n_components(self) -> int | None:
        """Components of the gallery that were kept."""
        return self.closure.n_components

    @property
    def label(self) -> str:
        """Name in tables: method, comparison where it is not the usual one, alpha where it is not 1."""
        alpha = self.alpha
        return self.closure.label + ("" if alpha in (None, 1.0) else f" {alpha:g}")

    @property
    def bound(self) -> float | None:
        """How much a difference of two scores can change at most; see `Closure.bound`."""
        return self.closure.bound

    @property
    def held_out(self) -> bool:
        """Whether every query was judged by a closure that had not seen it."""
        return self.folds > 0

    @cached_property
    def agreement(self) -> float:
        """Share of queries whose noise-free decision is the one before closing."""
        return float((self.decisions == self.before).mean())

    @cached_property
    def clean_accuracy(self) -> float | None:
        """Share of right noise-free decisions; None without labels."""
        return None if self.right is None else float(self.right.mean())

    @property
    def ndcg(self) -> dict[str, float] | None:
        """Discounted gain of right items among the k nearest, by k; of a mixed collection with answers."""
        if self.merged is None or self.merged.ndcg is None:
            return None
        return {k: float(gain.mean()) for k, gain in self.merged.ndcg.items()}

    @property
    def shares(self) -> dict[str, dict[str, float]] | None:
        """Share of each modality among the k nearest, by k; of a mixed collection."""
        return None if self.merged is None else self.merged.mean_shares()

    @property
    def lists(self) -> dict[str, float] | None:
        """By modality the share of queries whose 50 best items of it stayed, in their order, ties aside."""
        return None if self.merged is None else self.merged.lists_kept()

    def under(self, noise: str | Noise) -> NoiseResult:
        """Return the result under one noise, named as `robustness.parse` reads it.

        Raises
        ------
        ArgumentError
            The study has no such noise.
        """
        wanted = {noise} if isinstance(noise, str) else {noise.label}
        with suppress(ArgumentError):  # a caption template is a noise too, and no notation
            wanted.add(parse(str(*wanted)).label)
        for result in self.results:
            if result.noise in wanted:
                return result
        names = ", ".join(result.noise for result in self.results) or "none"
        raise ArgumentError(f"the study has no noise {noise!s}; it has {names}")

    def fragile(self, k: int = 10, *, noise: str | Noise | None = None) -> list[dict[str, Any]]:
        """Return the k queries whose decision is least stable, the most fragile first.

        Parameters
        ----------
        k : int
        noise : str or Noise, optional
            By default the first one that did not fail.

        Raises
        ------
        ArgumentError
            The study has no noise, or not this one, or it failed.
        """
        check_count(k, "k")
        if not self.results:
            raise ArgumentError(
                "the study has no noise to be fragile under; evaluate with `noises`"
            )
        whole = [result for result in self.results if result.failed is None]
        found = (whole or self.results)[0] if noise is None else self.under(noise)
        if found.failed is not None:
            raise ArgumentError(f"no query is fragile under {found.noise}: {found.failed}")
        outcome = found.outcome
        order = np.argsort(outcome.stability, kind="stable")[:k]
        return [
            {
                "query": int(i),
                "decision": int(self.decisions[i]),
                "stability": float(outcome.stability[i]),
                "retention": float(outcome.retention[i]),
                "right": None if self.right is None else bool(self.right[i]),
            }
            for i in order
        ]

    def to_dict(self) -> dict[str, Any]:
        """Return the figures as a plain dict, without per-query arrays."""
        return {
            "problem": self.problem,
            "method": self.method,
            "label": self.label,
            "comparison": str(self.closure.comparison),
            "alpha": self.alpha,
            "n_components": self.n_components,
            "exact": self.exact,
            "bound": self.bound,
            "changed": self.changed,
            "ties": self.ties,
            "folds": self.folds,
            "gap_after": self.gap_after,
            "enlarges": self.enlarges,
            "clean_accuracy": self.clean_accuracy,
            "agreement": self.agreement,
            "recall": None if self.recall is None else dict(self.recall),
            "kept": None if self.kept is None else dict(self.kept),
            "ndcg": self.ndcg,
            "shares": self.shares,
            "lists": self.lists,
            "warnings": list(self.notes),
            "noises": [result.to_dict() for result in self.results],
        }

    def __repr__(self) -> str:
        kind = "exact" if self.exact else "approximate"
        return f"Row({self.label!r}, {self.problem!r}, {kind}, agreement={self.agreement:.4f})"


@dataclass(frozen=True, eq=False)
class Study:
    """What closers do to a task, clean and perturbed.

    Attributes
    ----------
    task : dict
        Kind, counts, dimension, rank and metric.
    gaps : tuple of GapFigures
        One per problem.
    rows : tuple of Row
        One per problem, closer and alpha.
    settings : dict
        What it takes to get the same numbers again: closers, alphas, noises, draws, seed, folds.
    remarks : tuple of Remark
        What to know about the data before reading any figure.

    Examples
    --------
    >>> from modgap import Gaussian, evaluate, load_sample
    >>> study = evaluate(load_sample().task(), ["none", "affine"], noises=Gaussian(0.04))
    >>> study["affine"].exact, study["affine"].under("gaussian:0.04").estimator
    (True, 'exact')
    """

    task: dict[str, Any]
    gaps: tuple[GapFigures, ...]
    rows: tuple[Row, ...]
    settings: dict[str, Any] = field(default_factory=dict)
    remarks: tuple[Remark, ...] = ()

    def __getitem__(self, key: str | tuple[str, str]) -> Row:
        """Return the row of a label, or of (label, problem); the first problem's by default."""
        label, problem = (key, None) if isinstance(key, str) else key
        for row in self.rows:
            if label == row.label and problem in (None, row.problem):
                return row
        labels = ", ".join(dict.fromkeys(row.label for row in self.rows))
        raise KeyError(f"the study has no row {key!r}; it has {labels}")

    def __iter__(self) -> Iterator[Row]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def of_problem(self, problem: str) -> tuple[Row, ...]:
        """Return the rows of one problem."""
        return tuple(row for row in self.rows if row.problem == problem)

    def best(self, *, min_agreement: float = 1.0, noise: str | Noise | None = None) -> Row:
        """Return the row with the highest retention among those that keep enough answers.

        Parameters
        ----------
        min_agreement : float
            Smallest share of unchanged noise-free decisions that is still acceptable.
        noise : str or Noise, optional
            What to judge by; the mean over all noises that failed on no row by default.

        Raises
        ------
        ArgumentError
            No row qualifies, or no such noise was evaluated.
        """
        check_number(min_agreement, "min_agreement", low=0.0, high=1.0)
        study = self.without_failures() if noise is None else self
        scored = [
            (float(np.mean([r.retention for r in _judges(judged, noise)])), row)
            for judged, row in zip(study.rows, self.rows, strict=True)
            if judged.results and row.agreement >= min_agreement
        ]
        scored = [pair for pair in scored if not np.isnan(pair[0])]
        if not scored:
            raise ArgumentError(
                f"no row has agreement >= {min_agreement:g} and a noise; lower `min_agreement`, or "
                "evaluate with `noises`"
            )
        return max(scored, key=lambda pair: pair[0])[1]

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON-able record, without per-query arrays; docs/reference/json.md has its names."""
        found: dict[str, Any] = plain(
            {
                **stamp(),
                "task": self.task,
                "remarks": self.remarks,
                "gap": self.gaps[0],
                "gaps": self.gaps,
                "closers": [row.to_dict() for row in self.rows],
                "settings": self.settings,
            }
        )
        return found

    @property
    def failures(self) -> dict[str, str]:
        """Noises that some row could not be put under, with one sentence why."""
        results = [result for row in self.rows for result in row.results]
        return {one.noise: one.failed for one in reversed(results) if one.failed is not None}

    def without_failures(self) -> Study:
        """Return the study without the noises that failed on any row, with a remark on each of them.

        Raises
        ------
        CodeError
            None is left.
        """
        failures = self.failures
        if not failures:
            return self
        if all(result.noise in failures for result in self.rows[0].results):
            raise CodeError("; ".join(dict.fromkeys(failures.values())))
        rows = tuple(
            replace(row, results=tuple(r for r in row.results if r.noise not in failures))
            for row in self.rows
        )
        remarks = tuple(
            Remark("noise-failed", "warning", 1, f"{label} is left out: {why}")
            for label, why in failures.items()
        )
        return replace(self, rows=rows, remarks=(*self.remarks, *remarks))

    def to_json(self) -> str:
        """Return the record as one JSON document; absent figures are null."""
        return json.dumps(self.to_dict(), indent=2, allow_nan=False)

    def table(self) -> list[dict[str, Any]]:
        """Return flat rows, one per closer and noise (one per closer without noises)."""
        rows = []
        for row in self.rows:
            found = row.to_dict()
            noises = found.pop("noises")
            found |= _columns("recall", found.pop("recall")) | _columns("kept", found.pop("kept"))
            found |= _columns("ndcg", found.pop("ndcg")) | _columns("list", found.pop("lists"))
            for k, shares in (found.pop("shares") or {}).items():
                found |= {f"share_{k}_{name}": share for name, share in shares.items()}
            found["warnings"] = "; ".join(found["warnings"])
            noisy = [{**_columns("noisy_recall", noise.pop("recall")), **noise} for noise in noises]
            rows += [{**found, **noise} for noise in noisy] or [found]
        return rows

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
        names = ", ".join(dict.fromkeys(row.label for row in self.rows))
        return f"Study({self.task['kind']}, {len(self.gaps)} problem(s), closers: {names})"

    def _repr_html_(self) -> str:
        from modgap.evaluation.table import html_table

        return html_table(self)


def _columns(name: str, by_depth: Mapping[str, float] | None) -> dict[str, float]:
    return {f"{name}_{k}": value for k, value in (by_depth or {}).items()}


def _judges(row: Row, noise: str | Noise | None) -> tuple[NoiseResult, ...]:
    return row.results if noise is None else (row.under(noise),)
