"""What an answer consists of: the events of Anthropic's stream, as values.

Wire: docs.anthropic.com/en/api/messages-streaming. The order of the fields is the order Anthropic writes them in.
Nobody changes an event, or a value inside one, once it is made.
"""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

from msgspec import UNSET, Struct, UnsetType, field

StopReason: TypeAlias = Literal[
    "end_turn", "max_tokens", "stop_sequence", "tool_use", "pause_turn", "refusal", "model_context_window_exceeded"
]


class ServerToolUsage(Struct, gc=False):
    """What the provider's own tools were used for."""

    web_search_requests: int = 0


class OutputDetails(Struct, gc=False):
    """What of the output was thought."""

    thinking_tokens: int = 0


class AnswerUsage(Struct, gc=False):
    """Tokens so far, cumulative; the last told holds."""

    input_tokens: int = 0
    cache_creation_input_tokens: int = 0
    cache_read_input_tokens: int = 0
    output_tokens: int = 0
    server_tool_use: ServerToolUsage | UnsetType = UNSET
    output_tokens_details: OutputDetails | UnsetType = UNSET


class TextBlock(Struct, tag="text"):
    """Text; what it quotes is in `citations`, absent where the answer cites nothing."""

    text: str = ""
    citations: list[dict[str, Any]] | UnsetType = UNSET


class ThinkingBlock(Struct, tag="thinking", gc=False):
    """What the model thought. Only its upstream can read the signature."""

    thinking: str = ""
    signature: str = ""


class RedactedThinkingBlock(Struct, tag="redacted_thinking", gc=False):
    """Thoughts nobody but their upstream may read."""

    data: str


class ToolUseBlock(Struct, tag="tool_use"):
    """A call of one of the client's tools."""

    id: str
    name: str
    input: dict[str, Any] = field(default_factory=dict)


class ServerToolUseBlock(Struct, tag="server_tool_use"):
    """A call of a tool that the provider runs itself."""

    id: str
    name: str
    input: dict[str, Any] = field(default_factory=dict)


class WebSearchResultBlock(Struct, tag="web_search_tool_result"):
    """What a web search found: `web_search_result` items, or an error object."""

    tool_use_id: str
    content: list[dict[str, Any]] | dict[str, Any]


Block: TypeAlias = (
    TextBlock | ThinkingBlock | RedactedThinkingBlock | ToolUseBlock | ServerToolUseBlock | WebSearchResultBlock
)


class TextDelta(Struct, tag="text_delta", gc=False):
    text: str


class InputJsonDelta(Struct, tag="input_json_delta", gc=False):
    """A piece of the text of a tool's input."""

    partial_json: str


class ThinkingDelta(Struct, tag="thinking_delta", gc=False):
    thinking: str


class SignatureDelta(Struct, tag="signature_delta", gc=False):
    """The whole signature; the last before the block's end."""

    signature: str


class CitationsDelta(Struct, tag="citations_delta"):
    """One more citation for the open text block."""

    citation: dict[str, Any]


Delta: TypeAlias = TextDelta | InputJsonDelta | ThinkingDelta | SignatureDelta | CitationsDelta


class StartedMessage(Struct):
    """A message of which nothing is known but who answers, and what was read for it."""

    id: str
    type: Literal["message"]
    role: Literal["assistant"]
    content: list[Block]
    model: str
    stop_reason: None
    stop_sequence: None
    usage: AnswerUsage


class MessageStart(Struct, tag="message_start"):
    """The first event."""

    message: StartedMessage


class BlockStart(Struct, tag="content_block_start"):
    index: int
    content_block: Block


class BlockDelta(Struct, tag="content_block_delta"):
    index: int
    delta: Delta


class BlockStop(Struct, tag="content_block_stop", gc=False):
    index: int


class Stop(Struct):
    """Why the answer ended. `stop_details` says more of a refusal, where something is known."""

    stop_reason: StopReason | None
    stop_sequence: str | None = None
    stop_details: dict[str, Any] | UnsetType = UNSET


class MessageDelta(Struct, tag="message_delta"):
    """The end is known."""

    delta: Stop
    usage: AnswerUsage


class MessageStop(Struct, tag="message_stop", gc=False):
    """The last event of a whole answer."""


class Ping(Struct, tag="ping", gc=False):
    """Nothing but a sign of life."""


class ErrorDetail(Struct, gc=False):
    type: str
    message: str


class Error(Struct, tag="error"):
    """The last event of an answer that breaks off."""

    error: ErrorDetail


def started(id: str, model: str, usage: AnswerUsage) -> MessageStart:
    """The first event of an answer."""
    return MessageStart(StartedMessage(id, "message", "assistant", [], model, None, None, usage))


Event: TypeAlias = MessageStart | BlockStart | BlockDelta | BlockStop | MessageDelta | MessageStop | Ping | Error
