"""A sample of the campaign of pushes (`python -m tests.property.campaign` is the whole)."""

from __future__ import annotations

from pathlib import Path

from tests.property.campaign import campaign, tags_of
from tests.support.registry import registry
from tests.support.tools import require, run


def test_a_sample(tmp_path: Path) -> None:
    skopeo = require("skopeo")
    with registry(tmp_path) as upstream:
        outcomes = campaign(50, 1, upstream)
        problems = [item.problem for item in outcomes if item.problem]
        assert not problems, "\n".join(problems)
        # A reader that is not ours: it verifies all it copies.
        for name in tags_of(upstream, range(1, 51, 5)):
            run([skopeo, "copy", "-q", "--all", "--src-tls-verify=false", f"docker://{name}", f"dir:{tmp_path}/read"])
    assert len([item for item in outcomes if item.ended != "pushed"]) > 8
    assert len(set().union(*(item.fell for item in outcomes))) > 15
    assert any(item.again for item in outcomes)
