"""Signatures that say whose they are, so that no store has to remember it.

An Anthropic client gives a thinking block back as it got it, through a restart of ours and to another worker of ours.
So its signature carries a prefix of ours; what carries another one, or none, is some other model's and is left out.
"""

from __future__ import annotations

from mcp_proxy.dialects.gemini.profile import Profile

SHORTEST = 50
"""Characters of the shortest real signature; what is shorter counts as none."""


def sealed(signature: str, profile: Profile) -> str:
    """An upstream's signature as the client gets it; empty for none."""
    return profile.seal + signature if profile.seal is not None and len(signature) >= SHORTEST else ""


def unsealed(signature: object, profile: Profile) -> str | None:
    """The signature as its upstream wrote it; None where it is not this family's."""
    seal = profile.seal
    if seal is None or not isinstance(signature, str) or not signature.startswith(seal):
        return None
    return signature[len(seal) :] if len(signature) >= SHORTEST + len(seal) else None
