"""The models behind Google's Cloud Code, and how its list describes them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from mcp_proxy.sandbox.accounts import Model
from mcp_proxy.sandbox.answers import Json


class Family(StrEnum):
    """Who made a model: whose rules a request for it keeps, and whose signatures it carries."""

    CLAUDE = "claude"
    GEMINI = "gemini"
    GPT = "gpt"

    @property
    def pool(self) -> str:
        """How the names of the windows begin that it draws on."""
        return "gemini" if self is Family.GEMINI else "3p"


class Kind(StrEnum):
    """What a model is for."""

    CHAT = "chat"
    IMAGE = "image"
    SEARCH = "search"
    INTERNAL = "internal"


@dataclass(frozen=True, slots=True)
class GoogleModel(Model):
    """One model.

    output   the most tokens of an answer
    budgets  the fewest and the most tokens it may be told to think with; None: it does not think
    told     the fewest that the list names, where it names any
    sees     whether it reads images
    late     older clients do not get it
    """

    family: Family = Family.GEMINI
    kind: Kind = Kind.CHAT
    output: int = 65_536
    budgets: tuple[int, int] | None = None
    told: int | None = None
    sees: bool = True
    late: bool = False

    def entry(self) -> Json:
        """As the list describes it, without its quota."""
        if self.kind is Kind.INTERNAL:
            return {"isInternal": True, "maxTokens": self.context, "apiProvider": "API_PROVIDER_INTERNAL"}
        made = {Family.CLAUDE: "ANTHROPIC", Family.GEMINI: "GOOGLE", Family.GPT: "OPENAI"}[self.family]
        entry: Json = {
            "displayName": self.name,
            "supportsImages": self.sees,
            "supportsThinking": self.budgets is not None,
            "maxTokens": self.context,
            "maxOutputTokens": self.output,
            "model": f"MODEL_PLACEHOLDER_{abs(hash_of(self.id)) % 400}",
            "modelProvider": f"MODEL_PROVIDER_{made}",
        }
        if self.told is not None:
            entry |= {"thinkingBudget": -1, "minThinkingBudget": self.told}
        if self.sees:
            entry["supportedMimeTypes"] = {"image/png": True, "image/jpeg": True, "application/pdf": True}
            entry["requiresImageOutputOutsideFunctionResponses"] = True
        return {name: value for name, value in entry.items() if value is not False}


def hash_of(text: str) -> int:
    """A small number that is the same on every run."""
    return sum(index * byte for index, byte in enumerate(text.encode(), 1))


def _claude(id: str, name: str) -> GoogleModel:
    return GoogleModel(id, name, 200_000, family=Family.CLAUDE, output=64_000, budgets=(1_024, 64_000))


def _gemini(id: str, name: str, *, late: bool = False, told: int = 128) -> GoogleModel:
    budgets = (1, 65_535) if late else (128, 32_768)
    return GoogleModel(id, name, 1_048_576, budgets=budgets, told=told, late=late)


CATALOG = (
    _gemini("gemini-3.8-flash-high", "Gemini 3.8 Flash (High)", late=True, told=32),
    _gemini("gemini-3.8-flash-low", "Gemini 3.8 Flash (Low)", late=True, told=32),
    _gemini("gemini-pro-agent", "Gemini 3.1 Pro (High)"),
    _gemini("gemini-3.1-pro-low", "Gemini 3.1 Pro (Low)"),
    _gemini("gemini-3-flash", "Gemini 3 Flash"),
    _claude("claude-sonnet-4-6", "Claude Sonnet 4.6 (Thinking)"),
    _claude("claude-opus-4-6-thinking", "Claude Opus 4.6 (Thinking)"),
    GoogleModel("gpt-oss-120b-medium", "GPT-OSS 120B (Medium)", 114_000, family=Family.GPT, output=32_768, sees=False),
    GoogleModel("gemini-3.1-flash-image", "Gemini 3.1 Flash Image", 65_536, kind=Kind.IMAGE, output=32_768),
    GoogleModel("gemini-3.1-flash-lite", "Gemini 3.1 Flash Lite", 1_048_576, kind=Kind.SEARCH),
    GoogleModel("chat_20706", "", 16_384, kind=Kind.INTERNAL),
)
DEPRECATED = {"gemini-3.1-pro-high": "gemini-pro-agent"}
"""Names that are listed as moved, and not found when they are asked for."""


def catalog_lists(ids: list[GoogleModel]) -> Json:
    """What the list says besides its models."""
    chat = [model.id for model in ids if model.kind is Kind.CHAT]
    return {
        "defaultAgentModelId": chat[0] if chat else "",
        "agentModelSorts": [{"displayName": "Recommended", "groups": [{"modelIds": chat}]}],
        "deprecatedModelIds": {old: {"newModelId": new} for old, new in DEPRECATED.items()},
        "tabModelIds": [model.id for model in ids if model.kind is Kind.INTERNAL],
        "imageGenerationModelIds": [model.id for model in ids if model.kind is Kind.IMAGE],
        "webSearchModelIds": [model.id for model in ids if model.kind is Kind.SEARCH],
        "audioTranscriptionModelIds": [],
        "experimentIds": [101, 102],
    }
