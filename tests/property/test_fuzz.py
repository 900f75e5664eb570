"""A sample of the fuzz campaign (`python -m tests.property.fuzz` is the whole)."""

from __future__ import annotations

import pytest

from tests.property.fuzz import campaign, corpus

CORPUS = corpus()


@pytest.mark.parametrize("name", CORPUS)
def test_a_sample(name: str) -> None:
    parse, seeds = CORPUS[name]
    campaign(name, parse, seeds, 300 if name == "elf" else 1500, 1)
