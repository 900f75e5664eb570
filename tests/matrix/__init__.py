"""The verification matrix: the same bytes on every machine, shown on every machine that can be had."""
