"""The workflow that ran a build, for its provenance: whose repository, at which commit, by which file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

__all__ = ["Workflow", "github_workflow"]


class Workflow(msgspec.Struct, frozen=True, kw_only=True):
    """A run of a workflow, by what identifies it; the same for every run of one commit.

    Attributes:
        repository: The address of the source repository.
        ref: The branch or tag that was built, such as `refs/tags/v0.2.0`.
        path: The workflow's file in its repository.
        commit: The commit that was built.
        runner: What it ran on: `github-hosted` or `self-hosted`.
    """

    repository: str
    ref: str
    path: str
    commit: str
    runner: str = "github-hosted"

    @property
    def builder(self) -> str:
        """Who ran the build, as GitHub's own provenance names it."""
        server = self.repository.rsplit("/", 2)[0]
        return f"{server}/actions/runner/{self.runner}"

    def parameter(self) -> dict[str, str]:
        """As GitHub's own provenance names it among the external parameters."""
        return {"repository": self.repository, "ref": self.ref, "path": self.path}

    def dependency(self) -> dict[str, Any]:
        """The source as a resolved dependency (in-toto, ResourceDescriptor)."""
        return {"uri": f"git+{self.repository}@{self.ref}", "digest": {"gitCommit": self.commit}}


def github_workflow(variables: Mapping[str, str]) -> Workflow | None:
    """The workflow of GitHub Actions that the variables of an environment tell of; None outside one.

    Example:
        >>> github_workflow(
        ...     {
        ...         "GITHUB_ACTIONS": "true",
        ...         "GITHUB_SERVER_URL": "https://github.com",
        ...         "GITHUB_REPOSITORY": "grove/pg_trickle",
        ...         "GITHUB_REF": "refs/tags/v0.2.0",
        ...         "GITHUB_SHA": "0" * 40,
        ...         "GITHUB_WORKFLOW_REF": "grove/pg_trickle/.github/workflows/release.yml@refs/tags/v0.2.0",
        ...     }
        ... ).path
        '.github/workflows/release.yml'
        >>> github_workflow({}) is None
        True
    """
    repository, commit = variables.get("GITHUB_REPOSITORY"), variables.get("GITHUB_SHA")
    if variables.get("GITHUB_ACTIONS") != "true" or not repository or not commit:
        return None
    file = variables.get("GITHUB_WORKFLOW_REF", "").partition("@")[0]
    return Workflow(
        repository=f"{variables.get('GITHUB_SERVER_URL', 'https://github.com')}/{repository}",
        ref=variables.get("GITHUB_REF", ""),
        # OWNER/REPOSITORY/PATH; the file of a reused workflow may lie in another repository.
        path=file.removeprefix(f"{repository}/"),
        commit=commit,
        runner=variables.get("RUNNER_ENVIRONMENT", "self-hosted"),
    )
