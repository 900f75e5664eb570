"""The keys of the labels of CloudNativePG's images, beside those of the OCI."""

from __future__ import annotations

__all__ = ["OPERAND_NAME", "OPERAND_OS", "PG_MAJOR", "SQL_VERSION"]

_CNPG = "io.cloudnativepg.image."
OPERAND_NAME = _CNPG + "base.name"
OPERAND_OS = _CNPG + "base.os"
PG_MAJOR = _CNPG + "base.pgmajor"
SQL_VERSION = _CNPG + "sql.version"
