"""On a GPU: fits, closures, search, stability and a study, against the device's copies and products.

PyTorch tensors of a device go in, and everything is computed there. Limits are what the device itself
needs for the same rows: one copy of them, one product of them in float32. What travels to the host is read
off the profiler. Without a GPU `--quick` runs the same code on tensors of the host.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable
from typing import Any

import numpy as np
from _harness import SEED, clouds, in_turns, ratio_row, row

import modgap
from modgap import closers
from modgap.decisions.neighbors import search

FITTED = ("recenter", "standardize", "balanced")
#: Two thirds of what passes over the rows allow, each written by itself: a copy takes 2; `recenter` 6 with
#: its check, 5 without; `standardize`, which normalises twice, 11 and 10. `balanced` over its product.
BARS = {
    "recenter": (">= 0.22", ">= 0.26"),
    "standardize": (">= 0.12", ">= 0.13"),
    "balanced": (">= 0.5", ">= 0.5"),
}
DRAWS = 100
SIGMA = 0.022


def run(*, quick: bool, rounds: int | None = None) -> dict[str, Any]:
    import torch

    if not (quick or torch.cuda.is_available()):
        raise RuntimeError(
            "this benchmark wants a GPU that PyTorch sees; with --quick it needs none"
        )
    m, n, d = (200, 100, 16) if quick else (200_000, 200_000, 512)
    bench = _Bench(torch, rounds or (1 if quick else 7))
    queries, gallery = (bench.rows(size, d, seed) for seed, size in enumerate((m, n)))
    rows = [
        *bench.fits(queries, gallery),
        *bench.closures(queries, gallery),
        *bench.searches(queries[: 50 if quick else 10_000], gallery),
    ]
    sizes = (60, 20, d) if quick else (10_000, 1_000, d)
    rows += bench.decisions(*clouds(*sizes))
    rows += bench.full_memory(queries[: 50 if quick else 4096], gallery)
    setting = {"queries": m, "gallery": n, "d": d, "decisions": sizes, "dtype": "float32",
               "tf32": bool(torch.backends.cuda.matmul.allow_tf32), "device": bench.where}  # fmt: skip
    return {"setting": setting, "rows": rows, "details": bench.details}


class _Bench:
    """A device, how often each side is timed there, and what was measured beside the rows."""

    def __init__(self, torch: Any, rounds: int) -> None:
        self.torch, self.rounds = torch, rounds
        self.where = "cuda" if torch.cuda.is_available() else "cpu"
        self.details: dict[str, Any] = {"seconds": {}, "host": {}}

    def rows(self, n: int, d: int, seed: int) -> Any:
        """Return unit rows about an axis of their own, with a spectrum that decays."""
        torch = self.torch
        generator = torch.Generator(device=self.where).manual_seed(SEED + seed)
        x = torch.randn(n, d, generator=generator, device=self.where)
        x *= (1.0 + torch.arange(d, device=self.where)) ** -0.5
        x[:, seed] += 2
        return x / torch.linalg.vector_norm(x, dim=1, keepdim=True)

    def fits(self, queries: Any, gallery: Any) -> list[dict[str, Any]]:
        """Compare fits with the products of a row with itself that they need."""
        found = self._share(
            f"moments of {_size(gallery)}", ">= 0.3", "the product X^T X",
            lambda: gallery.T @ gallery, lambda: modgap.Moments.from_rows(gallery),
        )  # fmt: skip
        for name in FITTED:
            found += self._share(
                f"fit `{name}`, two clouds of {_size(gallery)}", ">= 0.1",
                "both clouds' X^T X in float64, and one eigendecomposition",
                lambda: self._least(queries, gallery),
                lambda name=name: closers.fit(name, queries, gallery),
            )  # fmt: skip
            found += self._travelled(
                f"fit `{name}`", lambda name=name: closers.fit(name, queries, gallery), queries
            )
        return found

    def _least(self, queries: Any, gallery: Any) -> None:
        for rows in (queries, gallery):
            wide = rows.double()
            square = wide.T @ wide
        self.torch.linalg.eigh(square)

    def closures(self, queries: Any, gallery: Any) -> list[dict[str, Any]]:
        """Compare closures with a copy of the rows, or with the product that they are."""
        found = []
        for name in FITTED:
            closure = closers.fit(name, queries, gallery)
            layer = closure.to(self.where)
            product = "matrix" in closure.gallery.constants
            matrix = self.torch.eye(gallery.shape[1], device=self.where)
            limit = (lambda x=matrix: gallery @ x) if product else gallery.clone
            word = "the product" if product else "a copy"
            checked, alone = BARS[name]
            for what, bar, work in (
                ("apply, input checked", checked, lambda c=closure: c.apply_gallery(gallery)),
                ("as a layer", alone, lambda c=layer: c.gallery(gallery)),
            ):
                found += self._share(
                    f"`{name}` on {_size(gallery)}, {what}", bar, word, limit, work
                )
            work = lambda c=closure: c.apply_gallery(gallery)  # noqa: E731
            found += self._travelled(f"apply `{name}`", work, gallery)
        return found

    def searches(self, queries: Any, gallery: Any) -> list[dict[str, Any]]:
        """Compare a search with its product, and its answers with the host's."""
        work = f"the ten nearest of {len(gallery):,} for {len(queries):,} queries"
        blocks = gallery.split(8192)

        def product() -> None:
            for block in blocks:
                queries @ block.T

        found = self._share(work, ">= 0.3", "the product alone", product,
                            lambda: modgap.nearest(queries, gallery, k=10))  # fmt: skip
        some = queries[:200]
        here = modgap.nearest(some, gallery, k=10).indices.cpu().numpy()
        there = modgap.nearest(some.cpu().numpy(), gallery.cpu().numpy(), k=10).indices
        found.append(row(f"the same: share of the host's answers, {len(some)} queries",
                         float(np.mean(here == there)), ">= 1"))  # fmt: skip
        return found

    def decisions(self, queries: Any, gallery: Any, labels: Any) -> list[dict[str, Any]]:
        """Compare stability with plain loops on the device, and a study with the host's."""
        y, x = (self.torch.as_tensor(part, device=self.where) for part in (queries, gallery))
        found = []
        noise = modgap.Gaussian(SIGMA)
        for metric, bar in (("ip", ">= 1"), ("euclidean", ">= 1"), ("cosine", ">= 0.4")):
            best = search(y, x, 1, modgap.Metric(metric)).indices[:, 0]
            seconds = self._timed(
                loop=lambda k=metric, b=best: self._loop(y, x, b, k),
                ours=lambda k=metric: modgap.stability(y, x, noise, metric=k, draws=DRAWS),
            )
            how = f"{DRAWS} draws" if metric == "cosine" else "the exact integral"
            work = f"stability by {metric}, {how}, over a loop of {DRAWS} draws there"
            found.append(ratio_row(work, seconds["loop"], seconds["ours"], bar))
        there = modgap.stability(y, x, noise, metric="euclidean").stability
        host = modgap.stability(queries, gallery, noise, metric="euclidean").stability
        found.append(
            row(
                "exact stability: difference from the host's",
                float(np.abs(there - host).max()),
                "<= 1e-4",
            )
        )
        options = {"closers": ["recenter", "balanced"], "noises": [noise, modgap.Sign()]}
        seconds = self._timed(
            rounds=min(3, self.rounds),
            host=lambda: modgap.evaluate(modgap.ZeroShot(queries, gallery, labels), **options),
            ours=lambda: modgap.evaluate(modgap.ZeroShot(y, x, labels), **options),
        )
        work = f"study of {len(queries):,} x {len(gallery):,}, two closers and two noises, over the host's"
        found.append(ratio_row(work, seconds["host"], seconds["ours"], ">= 1"))
        return found

    def full_memory(self, queries: Any, gallery: Any) -> list[dict[str, Any]]:
        """Search where the device has room for a fraction of a usual block, and compare the answers."""
        if self.where == "cpu":
            return []
        torch = self.torch
        expected = modgap.nearest(queries, gallery, k=10).indices
        torch.cuda.empty_cache()
        free, whole = torch.cuda.mem_get_info()
        room = torch.cuda.memory_reserved() + 192 * 2**20
        torch.cuda.set_per_process_memory_fraction(room / whole)
        try:
            found = modgap.nearest(queries, gallery, k=10).indices
            same = float((found == expected).double().mean())
        finally:
            torch.cuda.set_per_process_memory_fraction(1.0)
        self.details["full_memory"] = {"free_before": free, "room": 192 * 2**20}
        return [row("192 MiB left beside the rows: share of the same answers", same, ">= 1")]

    def _loop(self, y: Any, x: Any, best: Any, metric: str) -> None:
        torch = self.torch
        for _ in range(DRAWS):
            items = x + SIGMA * torch.randn_like(x)
            if metric == "cosine":
                items /= torch.linalg.vector_norm(items, dim=1, keepdim=True)
            scores = y @ items.T
            if metric == "euclidean":
                scores -= 0.5 * (items * items).sum(dim=1)
            (scores.argmax(dim=1) == best).float().mean()

    def _share(
        self, work: str, bar: str, limit: str, least: Callable[[], Any], ours: Callable[[], Any]
    ) -> list[dict[str, Any]]:
        seconds = self._timed(least=least, ours=ours)
        self.details["seconds"][work] = seconds
        return [ratio_row(f"{work}, over {limit}", seconds["least"], seconds["ours"], bar)]

    def _timed(
        self, rounds: int | None = None, **sides: Callable[[], Any]
    ) -> dict[str, list[float]]:
        def waited(work: Callable[[], Any]) -> Callable[[], None]:
            def timed() -> None:
                work()
                if self.where == "cuda":
                    self.torch.cuda.synchronize()

            return timed

        return in_turns(
            rounds or self.rounds, **{name: waited(work) for name, work in sides.items()}
        )

    def _travelled(self, what: str, work: Callable[[], Any], rows: Any) -> list[dict[str, Any]]:
        """Return the bytes that come to the host as a share of the rows' own, by the profiler."""
        if self.where == "cpu":
            return []
        from torch.profiler import ProfilerActivity, profile

        with profile(activities=[ProfilerActivity.CUDA]) as seen:
            work()
            self.torch.cuda.synchronize()
        sent = {"DtoH": 0, "HtoD": 0}
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "trace.json")
            seen.export_chrome_trace(path)
            with open(path, encoding="utf-8") as file:
                events = json.load(file)["traceEvents"]
        for event in events:
            for way in sent:
                if event.get("cat") == "gpu_memcpy" and way in event["name"]:
                    sent[way] += event["args"]["bytes"]
        self.details["host"][what] = sent
        share = sent["DtoH"] / (rows.numel() * rows.element_size())
        return [row(f"{what}: bytes to the host, as a share of the rows'", share, "<= 0.1")]


def _size(rows: Any) -> str:
    return f"{rows.shape[0]:,} x {rows.shape[1]}"
