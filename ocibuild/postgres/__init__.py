"""What PostgreSQL extensions are: sources, control files, checks, labels, images. The only folder that knows PostgreSQL."""

from .build import build_extension
from .check import Finding, Report, check
from .control import Control, parse_control
from .labels import Label, labels
from .magic import Magic, read_magic
from .packages import find_packages
from .project import Project, find_project
from .recipe import Recipe, find_recipe, read_recipe
from .sources import Library, Source, open_source
from .tags import expand_tag

__all__ = [
    "Control",
    "Finding",
    "Label",
    "Library",
    "Magic",
    "Project",
    "Recipe",
    "Report",
    "Source",
    "build_extension",
    "check",
    "expand_tag",
    "find_packages",
    "find_project",
    "find_recipe",
    "labels",
    "open_source",
    "parse_control",
    "read_magic",
    "read_recipe",
]
