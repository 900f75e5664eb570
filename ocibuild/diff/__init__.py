"""Why two images differ, from the index down to the byte."""

from .difference import Difference
from .images import Comparison, compare

__all__ = ["Comparison", "Difference", "compare"]
