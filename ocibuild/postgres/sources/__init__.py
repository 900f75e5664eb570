"""Sources: what an extension's build left behind, read into entries at the paths they have in the image."""

from .base import Package, Source
from .detect import open_source, open_sources
from .library import Library

__all__ = ["Library", "Package", "Source", "open_source", "open_sources"]
