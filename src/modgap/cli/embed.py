"""`modgap embed`: pictures and words into a folder of embeddings."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from modgap.cli._inputs import JsonOption

if TYPE_CHECKING:
    from modgap.datasets.collection import Collection
    from modgap.encode.encoder import Encoder

ModelOption = Annotated[
    str,
    typer.Option(
        "--model",
        metavar="M",
        help="hf:NAME (transformers), openclip:ARCHITECTURE/TAG, st:NAME (sentence-transformers), "
        "onnx:FOLDER, dual:FOLDER; or a folder, known by its files, or a name of the hub.",
    ),
]
EncoderOption = Annotated[
    str | None,
    typer.Option("--model", metavar="M", help="With --images: as modgap embed takes it."),
]
ImagesOption = Annotated[
    str | None,
    typer.Option(
        "--images",
        metavar="[KIND:]PATH",
        help="Folder, .tar, .parquet, or a data set in its published layout, as in coco:PATH; see "
        "the guide to data sets for the kinds.",
    ),
]
DeviceOption = Annotated[
    str, typer.Option("--device", metavar="auto|cpu|cuda|...", help="Where the model runs.")
]
ModelDtypeOption = Annotated[
    str,
    typer.Option(
        "--dtype",
        metavar="float32|float16|bfloat16",
        help="In which the model computes; embeddings are stored as float32.",
    ),
]
BatchOption = Annotated[
    int | None,
    typer.Option(
        "--batch",
        metavar="N",
        help="Items that run at once; halved where memory does not suffice.  [default: 64]",
    ),
]
RevisionOption = Annotated[
    str | None,
    typer.Option("--revision", metavar="R", help="Branch, tag or commit of the hub."),
]
OfflineOption = Annotated[
    bool, typer.Option("--offline", help="Fetch nothing; take models at hand only.")
]


def embed(
    model: ModelOption,
    out: Annotated[str, typer.Option("--out", metavar="DIR", help="Folder of the embeddings.")],
    images: ImagesOption = None,
    texts: Annotated[
        str | None,
        typer.Option(
            "--texts", metavar="FILE", help="Captions or documents: .txt, a line each, or .json."
        ),
    ] = None,
    classes: Annotated[
        str | None,
        typer.Option(
            "--classes",
            metavar="FILE",
            help="Class names: .txt or .json; `own` for the data set's.",
        ),
    ] = None,
    templates: Annotated[
        str | None,
        typer.Option(
            "--templates",
            metavar="FILE|NAME",
            help="Caption templates with {} for the class: .txt, .json, or a published set by name.  "
            "[default: a photo of a {}.]",
        ),
    ] = None,
    device: DeviceOption = "auto",
    dtype: ModelDtypeOption = "float32",
    batch: BatchOption = None,
    workers: Annotated[
        int | None,
        typer.Option(
            "--workers", metavar="N", help="Threads that read and decode.  [default: cores]"
        ),
    ] = None,
    shard_rows: Annotated[
        int,
        typer.Option("--shard-rows", metavar="N", help="Items a shard: what a killed run repeats."),
    ] = 10_000,
    captions: Annotated[
        bool, typer.Option("--captions/--no-captions", help="Encode the pictures' own texts too.")
    ] = True,
    thumbnails: Annotated[
        bool, typer.Option("--thumbnails", help="Keep small pictures for the report.")
    ] = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="Stop at a picture that cannot be read.")
    ] = False,
    revision: RevisionOption = None,
    offline: OfflineOption = False,
    json: JsonOption = False,
) -> None:
    r"""Encode pictures, captions and class names with a model.

    The folder is laid out as clip-retrieval lays out its own: img_emb, text_emb and metadata in
    numbered shards, with labels.npy, classes.json, texts.npy (templates, classes, d) and, of several
    templates, their ensemble in ensemble.npy (classes, d), where there are classes. Pictures that cannot be
    read are listed in skipped.csv. A run that was stopped goes on where it was with the same command.

    Examples
    --------
      modgap embed --model hf:openai/clip-vit-base-patch32 --images photos --out embeddings
      modgap embed --model openclip:ViT-B-32/openai --images cifar10:cifar-10-batches-bin \
                   --classes own --templates cifar --out embeddings
      modgap embed --model ./towers --texts captions.txt --out captions
    """
    from modgap import encode
    from modgap.cli._console import print_json, progress
    from modgap.cli._pictures import class_names, class_templates
    from modgap.errors import ArgumentError

    if images is not None and texts is not None:
        raise ArgumentError("`--images` and `--texts` go to folders of their own; run embed twice")
    if images is None and texts is None and classes is None:
        raise ArgumentError("give `--images`, `--texts` or `--classes`: what to encode")
    if templates is not None and classes is None:
        raise ArgumentError("`--templates` need `--classes` to fill in")
    collection = _collection(images, texts)
    names = None if classes is None else class_names(classes, collection)
    started = time.perf_counter()
    encoder = encode.load(
        model,
        revision=revision,
        device=device,
        dtype=dtype,
        offline=offline,
        batch=batch,
        workers=workers,
    )
    document: dict[str, Any] = {"model": encoder.card.to_dict(), "out": out, "files": {}}
    if collection is not None:
        total = len(collection)
        with progress("encoding", total=total, unit="items", shown=not json) as advance:
            done = encode.embed(
                encoder, collection, out,
                texts=captions, shard_rows=shard_rows, strict=strict, thumbnails=thumbnails,
                progress=advance,
            )  # fmt: skip
        document |= done.to_dict()
    if names is not None:
        document["files"] |= encode.embed_classes(encoder, names, class_templates(templates), out)
    document["seconds"] = time.perf_counter() - started
    if json:
        print_json(document)
    else:
        _print(encoder, document, out)


def _collection(images: str | None, texts: str | None) -> Collection | None:
    from modgap import datasets
    from modgap.io.labels import read_strings

    if images is not None:
        return datasets.open_collection(images)
    return None if texts is None else datasets.Lines(read_strings(texts))


def _print(encoder: Encoder, document: dict[str, Any], out: str) -> None:
    from modgap.cli._console import say, say_command

    say(f"{encoder.card.backend}:{encoder.card.model}, {encoder.dimension} dimensions -> {out}")
    seconds = max(document["seconds"], 1e-9)
    if "images" in document:
        counts = [f"{document[name]:,} {name}" for name in ("images", "texts") if document[name]]
        shards = document["shards"]
        say(f"{' and '.join(counts)} in {shards} shard{'s' * (shards > 1)}, {seconds:.1f} s")
        if document["resumed"]:
            say(f"{document['resumed']} of the shards were complete already.")
        if document["skipped"]:
            say(f"{document['skipped']:,} could not be read; see {Path(out) / 'skipped.csv'}.")
    command = _next(document["files"], out)
    if command:
        say("Next:")
        say_command(command)


def _next(files: dict[str, str], out: str) -> str | None:
    """Return the command that looks at what was made, where both sides are there."""
    import shlex

    def path(name: str) -> str:
        return shlex.quote(str(Path(out) / files[name]))

    if {"img_emb", "class_texts"} <= set(files):
        labels = f" --labels {path('labels')}" if "labels" in files else ""
        return f"modgap report {path('img_emb')} {path('class_texts')}{labels}"
    if {"img_emb", "text_emb"} <= set(files):
        owners = f" --owners {path('owners')}" if "owners" in files else ""
        return f"modgap report {path('text_emb')} {path('img_emb')} --paired{owners}"
    return None
