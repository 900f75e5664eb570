"""What a shared object says about itself. Knows no OCI and no PostgreSQL."""

from .shared_object import SharedObject, VersionNeed, read_shared_object

__all__ = ["SharedObject", "VersionNeed", "read_shared_object"]
