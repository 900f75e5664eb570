"""The digests of format 1. A change that moves one of these is a new format number, not a new golden."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping

import pytest

from tests.support.golden import GOLDEN, MAKERS


@pytest.mark.parametrize("make", MAKERS, ids=lambda make: make.__name__)
def test_golden(make: Callable[[], Mapping[str, object]]) -> None:
    assert make() == json.loads((GOLDEN / f"{make.__name__}.json").read_text(encoding="utf-8"))
