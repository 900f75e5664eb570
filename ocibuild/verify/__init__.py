"""Verifying: who signed an image, what is attested of it, and whether it is what a policy asks for."""

from .image import examine, verify
from .policy import Policy, parse_policy, read_policy
from .verdict import Attestation, Rule, Signature, Verdict

__all__ = [
    "Attestation",
    "Policy",
    "Rule",
    "Signature",
    "Verdict",
    "examine",
    "parse_policy",
    "read_policy",
    "verify",
]
