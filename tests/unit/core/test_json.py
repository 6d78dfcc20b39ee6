"""What results become in JSON."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass

import numpy as np
import pytest

import modgap
from modgap._core.json import SCHEMA, plain, stamp
from modgap.decisions.metric import COSINE


@dataclass(frozen=True)
class Record:
    metric: str
    values: tuple[float, ...]


def test_every_kind_of_value_becomes_a_plain_one():
    found = plain(
        {
            "record": Record(COSINE, (np.float32(0.5), math.inf)),
            COSINE: [np.int64(3), True, np.bool_(False), None, "text"],
            7: np.array([[1.0, np.nan]]),
        }
    )
    assert found == {
        "record": {"metric": "cosine", "values": [0.5, None]},
        "cosine": [3, True, False, None, "text"],
        "7": [[1.0, None]],
    }
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert type(found["record"]["metric"]) is str
    assert [type(v) for v in found["cosine"]] == [int, bool, bool, type(None), str]


def test_arrays_of_every_library_become_lists(to_xp):
    assert plain(to_xp(np.eye(2))) == [[1.0, 0.0], [0.0, 1.0]]


def test_what_has_no_place_says_so():
    with pytest.raises(TypeError, match="set has no place in a JSON document"):
        plain({"a": {1, 2}})


def test_a_document_names_its_version_and_its_maker():
    assert stamp() == {"schema": SCHEMA, "modgap": modgap.__version__}
