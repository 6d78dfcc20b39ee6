"""A-OKVQA: a question on a picture with several answers, one of them right."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from modgap._core.checks import check_choice
from modgap.datasets._files import check_text, read_json
from modgap.datasets._listed import Listed
from modgap.datasets.captions import picture_folder
from modgap.errors import ArgumentError, DataError
from modgap.io._guard import shown

__all__ = ["open_aokvqa"]

SPLITS = ("train", "val", "test")
_SLOT = re.compile(r"\{(question|choice)\}")


def open_aokvqa(
    questions: str | Path,
    *,
    images: str | Path | None = None,
    wording: str = "{question} {choice}",
) -> Listed:
    """Return the questions of A-OKVQA: `aokvqa_v1p0_val.json` and COCO's pictures of 2017.

    Parameters
    ----------
    questions : path
        A .json list of `image_id`, `question_id`, `question`, `choices` and, but for the test split,
        `correct_choice_idx`. Questions may have different numbers of choices.
    images : path, optional
        Folder of the pictures (`000000000139.jpg`); by default `val2017` and the like, near the file.
    wording : str
        What a choice becomes as a text; `{question}` and `{choice}` are put in.

    Returns
    -------
    Listed
        One item a question, its texts the choices in their order and its label the right one's place.

    Raises
    ------
    ArgumentError, DataError, FormatError
        A field is missing or of the wrong type, or no picture is there.
    """
    path = Path(questions)
    if "{choice}" not in wording:
        raise ArgumentError(f"`wording` must hold {{choice}}; got {wording!r}")
    loaded = read_json(path)
    if not isinstance(loaded, list) or not loaded:
        raise DataError(
            f"`{shown(path)}` must hold a list of questions; got {type(loaded).__name__}"
        )
    split = check_choice(_text(loaded[0], "split", path, 0), "split", SPLITS)
    folder = picture_folder(path, images, (f"{split}2017", f"images/{split}2017", "images"))
    found = Listed("aokvqa", path, folder, choices=True)
    for i, entry in enumerate(loaded):
        key = _text(entry, "question_id", path, i)
        number = entry.get("image_id")
        if isinstance(number, bool) or not isinstance(number, int) or number < 0:
            raise _wrong(path, i, "image_id", "a number", number)
        texts = _choices(entry, wording, path, i)
        found.append(key, f"{number:012d}.jpg", texts, _right(entry, len(texts), path, i))
    found.check()
    return found


def _choices(entry: dict[str, Any], wording: str, path: Path, i: int) -> list[str]:
    question = _text(entry, "question", path, i)
    choices = entry.get("choices")
    if not isinstance(choices, list) or len(choices) < 2:
        raise _wrong(path, i, "choices", "a list of two or more texts", choices)
    where = f"`{shown(path)}` question {i}: a choice"
    return [
        _worded(wording, {"question": question, "choice": check_text(choice, where)})
        for choice in choices
    ]


def _worded(wording: str, words: dict[str, str]) -> str:
    """Put words into a wording, once: braces within the words stay what they are."""
    return _SLOT.sub(lambda slot: words[slot[1]], wording)


def _right(entry: dict[str, Any], count: int, path: Path, i: int) -> int | None:
    right = entry.get("correct_choice_idx")
    if right is None:
        return None
    if isinstance(right, bool) or not isinstance(right, int) or not 0 <= right < count:
        raise _wrong(path, i, "correct_choice_idx", f"a number below {count}", right)
    return right


def _text(entry: Any, name: str, path: Path, i: int) -> str:
    if not isinstance(entry, dict):
        raise DataError(
            f"`{shown(path)}` question {i} must be an object; got {type(entry).__name__}"
        )
    return check_text(entry.get(name), f"`{shown(path)}` question {i}: `{name}`")


def _wrong(path: Path, i: int, name: str, rule: str, value: Any) -> DataError:
    return DataError(
        f"`{shown(path)}` question {i}: `{name}` must be {rule}; got {shown(repr(value))[:60]}"
    )
