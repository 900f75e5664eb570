"""What PostgreSQL extensions are: sources, control files, checks, labels, images. The only folder that knows PostgreSQL."""

from .build import build_extension
from .checks import Finding, Report, Verdict, check
from .configuration import ExtensionConfiguration, configuration, mount_name
from .control import Control, parse_control
from .labels import Label, labels
from .libdir import strip_libdir
from .magic import Magic, read_magic
from .packages import find_packages
from .project import Project, find_project
from .recipe import Recipe, find_recipe, read_recipe
from .root import ImageRoot, image_name, image_roots, in_folder
from .sources import Library, Package, Source, open_source, open_sources
from .system import SystemLibraries, open_system, system_sources
from .tags import check_version, expand_tag, tag_fields, tags

__all__ = [
    "Control",
    "ExtensionConfiguration",
    "Finding",
    "ImageRoot",
    "Label",
    "Library",
    "Magic",
    "Package",
    "Project",
    "Recipe",
    "Report",
    "Source",
    "SystemLibraries",
    "Verdict",
    "build_extension",
    "check",
    "check_version",
    "configuration",
    "expand_tag",
    "find_packages",
    "find_project",
    "find_recipe",
    "image_name",
    "image_roots",
    "in_folder",
    "labels",
    "mount_name",
    "open_source",
    "open_sources",
    "open_system",
    "parse_control",
    "read_magic",
    "read_recipe",
    "strip_libdir",
    "system_sources",
    "tag_fields",
    "tags",
]
