"""A look at the data before anything is made of it: one line for each thing that a reader must know."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from modgap._core.arrays import Array
from modgap._core.checks import check_cloud, check_count, check_indices, check_same_width
from modgap._core.clouds import Cloud
from modgap._core.opening import row_lengths
from modgap.decisions.choices import check_present, present_rows
from modgap.decisions.metric import Metric, as_metric
from modgap.errors import ArgumentError, ShapeError
from modgap.measures import findings
from modgap.measures.findings import Remark, Severity, View

__all__ = ["Remark", "look"]

#: From what stops the work to what is good to know.
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")


def look(
    queries: Any,
    gallery: Any,
    *,
    labels: Any = None,
    positives: np.ndarray | None = None,
    paired: bool = False,
    owners: Any = None,
    metric: str = "cosine",
    sample: int = 1000,
    seed: int = 0,
    present: np.ndarray | None = None,
) -> tuple[Remark, ...]:
    """Return what a reader of any figure about these clouds must know first, gravest first.

    Values that cannot be used, NaN or rows of zeros, are remarks and raise nothing.

    Parameters
    ----------
    queries : array (m, d), floating
    gallery : array (n, d), floating
        Or (m, c, d), where each query has its own candidates.
    labels : array (m,), integers, optional
        Row of the gallery (or position among the candidates) that is right for each query.
    positives : ndarray (m, k), optional
        The same where several are right, -1 where there are fewer than k.
    paired : bool
        Row i of the queries belongs to row i of the gallery.
    owners : array (n,), integers, optional
        What each row of the gallery belongs to: copies within one owner are no fault.
    metric : {"cosine", "ip", "euclidean"}
    sample : int
        Most rows for checks that compare rows with rows.
    seed : int
        Of the sample and of the permutations.
    present : ndarray (m, c) of bool, optional
        Of candidates: which are there; the others are padding.

    Returns
    -------
    tuple of Remark
        Codes: "not-finite", "out-of-range", "zero-rows", "one-item", "same-rows",
        "copies-in-gallery", "copies-in-queries", "unrelated-pairs", "chance", "unrelated-clouds",
        "scales", "lengths", "half-precision", "full-rank", "few-queries", "few-items". Empty where
        there is nothing to say.

    Raises
    ------
    ArgumentError, DataError, ShapeError
        Shapes do not fit together, the metric is unknown, labels are no indices of the gallery.

    Notes
    -----
    Copies: equal hashes, then compared bit by bit. The tests against chance are those of
    `modgap.measures.relations`; a remark is made where one is not passed at the level .01, and, of
    clouds without pairs and labels, where both have 50 rows and 64 dimensions. Cost: (m + n) d,
    and s^2 d + s d^2 for a sample of s rows.

    Examples
    --------
    >>> import numpy as np
    >>> x = np.random.default_rng(0).normal(size=(40, 8))
    >>> for remark in look(x + 1, np.concatenate([x[:39], x[:1]]), paired=True):
    ...     print(remark.severity, remark.code, remark.count)
    warning copies-in-gallery 1
    note lengths 80
    note full-rank 8
    """
    view = _open(queries, gallery, paired, as_metric(metric), sample, seed, present)
    view = _with_answers(view, labels, positives, owners)
    found = list(findings.not_usable(view))
    if not found:
        for check in (findings.zero_rows, findings.copies, findings.lengths, findings.sizes):
            found += check(view)
    if not any(remark.severity == "error" for remark in found):
        found += [*findings.relations(view), *findings.full_rank(view)]
    return tuple(sorted(found, key=lambda remark: SEVERITIES.index(remark.severity)))


def _open(
    queries: Any,
    gallery: Any,
    paired: bool,
    metric: Metric,
    sample: int,
    seed: int,
    present: np.ndarray | None,
) -> View:
    check_count(sample, "sample", low=2)
    check_count(seed, "seed", low=0)
    ours, _ = _cloud(queries, "queries", metric)
    theirs, candidates = _cloud(gallery, "gallery", metric, present)
    check_same_width(ours.need_rows(), "queries", theirs.need_rows(), "gallery")
    if candidates is not None and candidates.shape[0] != ours.count:
        raise ShapeError(
            "`gallery` must hold one set of candidates per query, shape (m, c, d); got "
            f"{tuple(candidates.shape)} for {ours.count} queries"
        )
    if paired and (candidates is not None or ours.count != theirs.count):
        raise ShapeError(
            f"`queries` and `gallery` must pair row by row; got {ours.count} and {theirs.count} rows"
        )
    return View(ours, theirs, candidates, None, paired, None, metric, sample, seed, present)


def _cloud(
    x: Any, name: str, metric: Metric, present: np.ndarray | None = None
) -> tuple[Cloud, Array | None]:
    """Return the rows with their lengths, and the candidates that they were; values are looked at later.

    `present` tells which candidates are there; what pads the others is looked at by nobody.
    """
    if isinstance(x, Cloud):
        return x, None
    x = check_cloud(x, name, finite=False, ndim=(2, 3) if name == "gallery" else 2)
    x = x.detach() if hasattr(x, "detach") else x
    candidates = x if x.ndim == 3 else None
    rows = x if candidates is None else present_rows(x, check_present(present, x.shape))
    return Cloud(rows, metric.needs_directions, row_lengths(rows)), candidates


def _with_answers(view: View, labels: Any, positives: np.ndarray | None, owners: Any) -> View:
    m, n = view.queries.count, view.gallery.count
    items = n if view.candidates is None else int(view.candidates.shape[1])
    if labels is not None and positives is not None:
        raise ArgumentError("`labels` and `positives` say the same; pass one of them")
    if labels is not None:
        positives = check_indices(labels, "labels", rows=m, below=items)[:, None]
    elif positives is None and view.paired:
        positives = np.arange(m)[:, None]
    if owners is not None:
        below = int(np.iinfo(np.int64).max)
        owners = check_indices(owners, "owners", rows=n, below=below, rows_of="gallery")
    return replace(view, positives=positives, owners=owners)
