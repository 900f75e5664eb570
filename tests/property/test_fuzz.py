"""A sample of the fuzz campaign (`python -m tests.property.fuzz` is the whole)."""

from __future__ import annotations

import pytest

from tests.property.fuzz import campaign, corpus
from tests.property.fuzz_diff import DIFFED
from tests.property.fuzz_registry import WIRED

CORPUS = corpus()
# What takes longest a case.
COUNTS = {"elf": 300, **dict.fromkeys(WIRED, 500), **dict.fromkeys(DIFFED, 200)}


@pytest.mark.parametrize("name", CORPUS)
def test_a_sample(name: str) -> None:
    parse, seeds = CORPUS[name]
    campaign(name, parse, seeds, COUNTS.get(name, 1500), 1)
