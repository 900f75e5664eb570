"""What an image of the server provides: libraries by distribution and architecture, PostgreSQL's own exports, extensions.

The data is in the JSON files of this folder, made by `python -m tests.support.policies`, and read only when asked for.
"""

from ocibuild.postgres.distros import DISTROS

from .policy import Policy, Provided, Server, load_policy, load_server

__all__ = ["DISTROS", "Policy", "Provided", "Server", "load_policy", "load_server"]
