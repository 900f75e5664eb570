"""Sources: what an extension's build left behind, read into entries at the paths they have in the image."""

from .base import Library, Source
from .detect import open_source

__all__ = ["Library", "Source", "open_source"]
