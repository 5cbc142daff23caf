"""Vendors with an Anthropic-compatible endpoint that need no more than a row, and `custom` for all others.

Wire: the vendors' own pages for Claude Code, 2026-08. Names of models change monthly: an account may name its own.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from accounts.model import ApiKeySignIn, Auth
from mcp_proxy.core.ids import ModelId, ProviderName
from mcp_proxy.core.provider import Discover, Offer, Provider, ReadQuotas, Serves, Size, Verify
from mcp_proxy.core.quota import Bucket
from mcp_proxy.dialects.native import native_request
from mcp_proxy.providers import _balances as balances
from mcp_proxy.providers import _vendors as vendors
from mcp_proxy.providers._asking import discover_models, verify_by, verify_by_message
from mcp_proxy.providers._errors import Special, reader


@dataclass(frozen=True, slots=True, kw_only=True)
class Preset:
    """One vendor.

    base_url  None: each account brings its own
    models    its models and their windows in tokens (None: unknown), best known first
    sizes     which of them answers for fable, opus, sonnet and haiku
    buckets   what all its models draw on
    errors    its own error codes; None where it keeps to Anthropic's
    any       whether an account that names and lists nothing serves every id
    """

    name: str
    title: str
    base_url: str | None
    auth: Auth
    key_page: str | None = None
    notice: str | None = None
    models: dict[str, int | None] = field(default_factory=dict)
    sizes: tuple[str, ...] = ()
    buckets: tuple[Bucket, ...] = ()
    errors: Special | None = None
    quotas: ReadQuotas | None = None
    discover: Discover | None = None
    verify: Verify = verify_by_message
    counts: bool = False
    any: bool = False


PRESETS = (
    Preset(
        name="kimi",
        title="Moonshot (Kimi, pay as you go)",
        base_url="https://api.moonshot.ai/anthropic",
        auth="bearer",
        key_page="https://platform.moonshot.ai/console/api-keys",
        models={"kimi-k3": None, "kimi-k2.7-code": None, "kimi-k2.6": None, "kimi-k2.5": None},
        sizes=("kimi-k3", "kimi-k3", "kimi-k2.7-code", "kimi-k2.6"),
        errors=vendors.moonshot,
        verify=verify_by(balances.moonshot_balance),
        counts=True,
    ),
    Preset(
        name="kimi-code",
        title="Kimi Code (plan)",
        base_url="https://api.kimi.com/coding",
        auth="bearer",
        key_page="https://www.kimi.com/code",
        notice="Kimi Code serves known coding agents only.",
        models={"kimi-for-coding": None, "k2p5": None},
        sizes=("kimi-for-coding",) * 4,
        buckets=(vendors.FIVE_HOURS, vendors.WEEK),
        errors=vendors.kimi_code,
        quotas=balances.kimi_quotas,
        verify=verify_by(balances.kimi_usages),
        counts=True,
    ),
    Preset(
        name="deepseek",
        title="DeepSeek",
        base_url="https://api.deepseek.com/anthropic",
        auth="x-api-key",
        key_page="https://platform.deepseek.com/api_keys",
        models={"deepseek-v4-pro": None, "deepseek-flash": None},
        sizes=("deepseek-v4-pro", "deepseek-v4-pro", "deepseek-flash", "deepseek-flash"),
        verify=balances.deepseek_verify,
    ),
    Preset(
        name="minimax",
        title="MiniMax",
        base_url="https://api.minimax.io/anthropic",
        auth="bearer",
        key_page="https://platform.minimax.io",
        models={
            "MiniMax-M3": None,
            "MiniMax-M2.7": None,
            "MiniMax-M2.7-highspeed": None,
            "MiniMax-M2.5": None,
            "MiniMax-M2.1": None,
            "MiniMax-M2": 204_800,
        },
        sizes=("MiniMax-M3", "MiniMax-M3", "MiniMax-M3", "MiniMax-M2.7-highspeed"),
        buckets=(vendors.FIVE_HOURS,),
        errors=vendors.minimax,
        quotas=balances.minimax_quotas,
        verify=balances.minimax_verify,
    ),
    Preset(
        name="alibaba",
        title="Alibaba Model Studio (Qwen)",
        base_url="https://dashscope-intl.aliyuncs.com/apps/anthropic",
        auth="bearer",
        key_page="https://modelstudio.console.alibabacloud.com",
        notice="Keys of the Coding and Token Plans need the plan's base URL and are for interactive coding tools only.",
        models={"qwen3.6-plus": None},
        sizes=("qwen3.6-plus",) * 4,
        buckets=(vendors.PLAN,),
        errors=vendors.alibaba,
        counts=True,
    ),
    Preset(
        name="openrouter",
        title="OpenRouter",
        base_url="https://openrouter.ai/api",
        auth="bearer",
        key_page="https://openrouter.ai/keys",
        models={
            "~anthropic/claude-opus-latest": None,
            "~anthropic/claude-sonnet-latest": None,
            "~anthropic/claude-haiku-latest": None,
        },
        sizes=(
            "~anthropic/claude-opus-latest",
            "~anthropic/claude-opus-latest",
            "~anthropic/claude-sonnet-latest",
            "~anthropic/claude-haiku-latest",
        ),
        errors=vendors.openrouter,
        discover=discover_models(optional=True),
        verify=verify_by(balances.openrouter_key),
    ),
    Preset(
        name="custom",
        title="Any Anthropic-compatible endpoint",
        base_url=None,
        auth="x-api-key",
        discover=discover_models(optional=True),
        counts=True,
        any=True,
    ),
)


def provider(preset: Preset) -> Provider:
    """The form, filled in from its row."""

    def offer(model: ModelId) -> Offer:
        return Offer(model, preset.buckets, context_window=preset.models.get(model))

    return Provider(
        name=ProviderName(preset.name),
        title=preset.title,
        base_url=preset.base_url,
        auth=preset.auth,
        sign_in=ApiKeySignIn(preset.key_page, preset.notice),
        serves=Serves(
            offers=tuple(offer(ModelId(model)) for model in preset.models),
            sizes={size: ModelId(model) for size, model in zip(Size, preset.sizes, strict=False)},
            offer=offer,
            any=preset.any,
        ),
        request=native_request(to_anthropic=False),
        read_failure=reader(preset.errors),
        quotas=preset.quotas,
        discover=preset.discover,
        verify=preset.verify,
        counts=preset.counts,
    )


PROVIDERS = tuple(map(provider, PRESETS))
