"""One client's request, as it came."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

import msgspec

from accounts.model import Secret
from mcp_proxy.core.http import Headers


class Endpoint(StrEnum):
    """Which endpoint is asked; the value is its path. Anthropic has no pictures, so that one is ours.

    The body of IMAGES: `{"model", "prompt", "aspect_ratio"?, "input_image"?: {"media_type", "data"}}`; its answer is a
    message with `image` blocks.
    """

    MESSAGES = "/v1/messages"
    COUNT_TOKENS = "/v1/messages/count_tokens"
    IMAGES = "/v1/images/generate"


class Span(NamedTuple):
    """Bytes start..end of a body: one value of the top-level object."""

    start: int
    end: int


class Member(NamedTuple):
    """One member of a JSON object.

    key    unescaped
    start  where its key begins, quote included
    value  where its value stands, without white space around it
    """

    key: str
    start: int
    value: Span


class Ask(msgspec.Struct, frozen=True):
    """A parsed request and the bytes it was parsed from. Each request makes several: a struct is soon copied.

    body        as the client sent it
    model       the model asked for, unescaped
    model_span  where the value of `model` stands in `body`, quotes included
    stream      whether the client wants events
    headers     the client's, names in lower case, without what names or authenticates the client to us
    beta        whether the query held `beta=true`
    system      where the value of `system` stands in `body`; None where there is none
    id, at      what we call it, and when it came (unix seconds): for upstreams that want to be told
    login       the caller's own login at Anthropic; None: it brought none
    local       whether a program on this machine asks
    unsigned    whether what the model signed earlier is to be left out: an upstream has refused a signature
    members     the top-level members of `body`, so that nobody has to look for them again; empty where not read
    """

    endpoint: Endpoint
    body: bytes
    model: str
    model_span: Span
    stream: bool
    headers: Headers
    beta: bool = False
    system: Span | None = None
    id: str = ""
    at: float = 0.0
    login: Secret | None = None
    local: bool = False
    unsigned: bool = False
    members: tuple[Member, ...] = ()
