"""What PostgreSQL extensions are: sources, control files, checks, labels, images. The only folder that knows PostgreSQL.

Every name is loaded when it is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ocibuild.lazy import loader

if TYPE_CHECKING:
    from .build import begin_layers, build_extension
    from .checks import Finding, Report, Verdict, check
    from .control import Control, parse_control
    from .label import Label, labels
    from .libdir import strip_libdir
    from .magic import Magic, read_magic
    from .mount import ExtensionConfiguration, configuration, mount_name
    from .packages import find_packages
    from .project import Project, find_project
    from .recipe import Recipe, find_recipe, read_recipe
    from .root import ImageRoot, image_name, image_roots, in_folder
    from .sources import Library, Package, Source, open_source, open_sources
    from .system import SystemLibraries, open_system, system_sources
    from .tag import check_version, expand_tag, tag_fields, tags

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
    "begin_layers",
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

_HOMES = {
    "build": ("begin_layers", "build_extension"),
    "checks": ("Finding", "Report", "Verdict", "check"),
    "mount": ("ExtensionConfiguration", "configuration", "mount_name"),
    "control": ("Control", "parse_control"),
    "label": ("Label", "labels"),
    "libdir": ("strip_libdir",),
    "magic": ("Magic", "read_magic"),
    "packages": ("find_packages",),
    "project": ("Project", "find_project"),
    "recipe": ("Recipe", "find_recipe", "read_recipe"),
    "root": ("ImageRoot", "image_name", "image_roots", "in_folder"),
    "sources": ("Library", "Package", "Source", "open_source", "open_sources"),
    "system": ("SystemLibraries", "open_system", "system_sources"),
    "tag": ("check_version", "expand_tag", "tag_fields", "tags"),
}

__getattr__ = loader(__name__, globals(), _HOMES)


def __dir__() -> list[str]:
    return sorted(__all__)
