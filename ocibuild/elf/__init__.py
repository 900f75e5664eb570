"""What a shared object or program says about itself. Knows no OCI and no PostgreSQL."""

from .read import read_shared_object
from .shared_object import Import, SharedObject, VersionNeed

__all__ = ["Import", "SharedObject", "VersionNeed", "read_shared_object"]
