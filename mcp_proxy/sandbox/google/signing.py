"""Signatures of thoughts that can be checked: whose they are, and of what.

They look as the real ones do: Claude's are base64 twice over and begin with `R`, Gemini's once and begin with `C`.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from base64 import b64decode, b64encode

from mcp_proxy.sandbox.answers import Json
from mcp_proxy.sandbox.google.models import Family

SENTINELS = ("skip_thought_signature_validator", "context_engineering_is_the_way_to_go")
"""What Gemini takes in place of a signature; to Claude it is no signature at all."""

_KEYS = {Family.CLAUDE: (b"\x12sandbox claude", b"sandbox anthropic key"), Family.GEMINI: (b"\x0asandbox", b"google")}


def of_call(call: Json) -> str:
    """What the signature on a function call is of."""
    return f"{call.get('name')}\0{json.dumps(call.get('args') or {}, sort_keys=True)}"


def sign(family: Family, material: str) -> str:
    """A signature; empty for a family that signs nothing. material: a thought's text, or `of_call`."""
    if family not in _KEYS:
        return ""
    start, key = _KEYS[family]
    raw = b64encode(start + hmac.digest(key, material.encode("utf-8", "surrogatepass"), hashlib.sha512))
    return b64encode(raw).decode() if family is Family.CLAUDE else raw.decode()


def maker(signature: str) -> Family | None:
    """Whose signature it says it is."""
    try:
        raw = b64decode(signature, validate=True)
        if raw.startswith(_KEYS[Family.GEMINI][0]):
            return Family.GEMINI
        return Family.CLAUDE if b64decode(raw, validate=True).startswith(_KEYS[Family.CLAUDE][0]) else None
    except ValueError:
        return None


def genuine(family: Family, material: str, signature: str) -> bool:
    """Whether this family signed this."""
    return bool(signature) and hmac.compare_digest(sign(family, material).encode(), signature.encode())
