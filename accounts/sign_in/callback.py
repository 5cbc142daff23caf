"""What comes back from a provider's page: the query of a callback, or what a person pasted of it.

Only an answer that carries our state is one (RFC 6749, 10.12); a code that was pasted alone is bound by its verifier.
"""

from __future__ import annotations

import hmac
import re
from dataclasses import dataclass
from typing import TypeAlias
from urllib.parse import parse_qs, unquote

from accounts.model import Secret

CODE_LIMIT = 4096
SHORTEST_CODE = 10
"""Characters. What is shorter was mistyped."""

MOST_FIELDS = 50
SAID_LIMIT = 200
_NAMED = re.compile(r"(^|[?&#])(code|state|error)=")


@dataclass(frozen=True, slots=True)
class Granted:
    """The person agreed; the code is good for one exchange."""

    code: Secret


@dataclass(frozen=True, slots=True)
class Denied:
    """The page answered our question with an error; `said` is text from outside."""

    said: str


@dataclass(frozen=True, slots=True)
class Unusable:
    """No answer to our question, and why. Never repeats what came."""

    why: str


Answer: TypeAlias = Granted | Denied | Unusable


def of_query(query: str, state: str) -> Answer:
    """What a callback's query says. An error goes before a code."""
    try:
        fields = parse_qs(query, keep_blank_values=True, max_num_fields=MOST_FIELDS)
    except ValueError:
        return Unusable("it has too many fields")
    states = fields.get("state", [])
    if len(states) != 1 or not hmac.compare_digest(states[0].encode("utf-8", "replace"), state.encode()):
        return Unusable("it does not belong to this sign-in: its state is missing or another")
    if "error" in fields:
        return Denied(_shortened(": ".join([fields["error"][0], *fields.get("error_description", [])[:1]])))
    codes = fields.get("code", [])
    if len(codes) != 1:
        return Unusable("it holds no code" if not codes else "it holds more than one code")
    return _granted(codes[0])


def of_paste(text: str, state: str) -> Answer:
    """What a person pasted: the address that the browser ended on, or the code alone."""
    pasted = text.strip()
    if pasted.lower().startswith(("http://", "https://")) or _NAMED.search(pasted):
        address = pasted.partition("#")[0]  # what stands behind it never came from a page that answers us
        return of_query(address.partition("?")[2] if "?" in address else address, state)
    return _granted(unquote(pasted))


def _granted(code: str) -> Granted | Unusable:
    if not (code.isascii() and code.isprintable()) or set(code) & set(" #&?"):
        return Unusable("it holds characters that no code has")
    if not SHORTEST_CODE <= len(code) <= CODE_LIMIT:
        return Unusable(
            "the code is too short: paste the whole of it" if len(code) < SHORTEST_CODE else "it is no code"
        )
    return Granted(Secret(code))


def _shortened(said: str) -> str:
    return said if len(said) <= SAID_LIMIT else f"{said[:SAID_LIMIT]}…"
