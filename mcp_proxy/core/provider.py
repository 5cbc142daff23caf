"""The form a provider fills in, once. It never retries, waits, remembers or logs."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeAlias
from urllib.parse import urlsplit

from accounts.model import Auth, OAuthClient, OAuthGrant, Secret, SignIn, Token, Verdict
from mcp_proxy.core.failure import Failure, Refusal
from mcp_proxy.core.http import Headers, Transport, UpstreamRequest
from mcp_proxy.core.ids import ModelId, ProviderName
from mcp_proxy.core.messages import Ask
from mcp_proxy.core.quota import ACCOUNT, BILLING, Bucket, Kind, Quota, absence, model_bucket
from mcp_proxy.core.time import Instant


class Size(StrEnum):
    """Claude's size classes, largest name first; a model name belongs to the first it contains."""

    FABLE = "fable"
    OPUS = "opus"
    SONNET = "sonnet"
    HAIKU = "haiku"


@dataclass(frozen=True, slots=True)
class Offer:
    """A model as one account serves it.

    draws_on        the provider's buckets that a request for it uses up
    context_window  tokens it can hold; None: unknown, so never a reason to refuse
    pictures        whether it makes pictures, and is asked for nothing else
    profile         what this model takes and gives: the provider's own value, which nobody else looks into
    """

    model: ModelId
    draws_on: tuple[Bucket, ...] = ()
    display_name: str | None = None
    context_window: int | None = None
    profile: object = None
    pictures: bool = False
    buckets: tuple[Bucket, ...] = field(init=False, repr=False, compare=False)
    """Every bucket that can close it: the account's, the model's own, and the provider's."""
    bucket_set: frozenset[Bucket] = field(init=False, repr=False, compare=False)
    """The same, to look one up."""
    allowances: tuple[Bucket, ...] = field(init=False, repr=False, compare=False)
    """Those of the provider's that are worth saving the end of."""

    def __post_init__(self) -> None:
        own = (ACCOUNT, BILLING, model_bucket(self.model), absence(self.model))
        # each decision looks into all of them
        object.__setattr__(self, "buckets", (*own, *self.draws_on))
        object.__setattr__(self, "bucket_set", frozenset(self.buckets))
        object.__setattr__(self, "allowances", tuple(each for each in self.draws_on if each.kind is Kind.ALLOWANCE))


@dataclass(frozen=True, slots=True)
class Serves:
    """What a provider's accounts serve.

    offers   the models we know it lists, best known first
    sizes    which of its models answers for a Claude size class; Claude Code's names work through it
    offer    an offer for an id that is not listed here (discovered, or named by the user)
    any      whether an account that names and lists nothing serves every id (`custom`)
    """

    offers: tuple[Offer, ...] = ()
    sizes: Mapping[Size, ModelId] = field(default_factory=dict)
    offer: Callable[[ModelId], Offer] = Offer
    any: bool = False


@dataclass(frozen=True, slots=True)
class Access:
    """Where and with what one account is asked.

    base_url        scheme, host, port, path prefix; no slash at its end
    urls            addresses that settings replaced, by the name the provider gave them ("quota_url")
    known           what is known of the account (`Account.extra`)
    client_version  which version of its own client the upstream is told; None: the provider's own value
    callers         whether the token is the caller's own, whose request goes on as it came
    """

    base_url: str
    auth: Auth
    token: Token
    urls: Mapping[str, str] = field(default_factory=dict)
    known: Mapping[str, str] = field(default_factory=dict)
    client_version: str | None = None
    callers: bool = False

    def at(self, name: str, path: str) -> str:
        """The address called `name`: as set, else `path` on the host of `base_url`."""
        if name in self.urls:
            return self.urls[name]
        base = urlsplit(self.base_url)
        return f"{base.scheme}://{base.netloc}{path}"


@dataclass(frozen=True, slots=True)
class Listed:
    """A model as a provider's own list describes it.

    offer  the model as an offer, where the list tells more than its names; None: `Serves.offer` makes one
    """

    model: ModelId
    display_name: str | None = None
    offer: Offer | None = None


@dataclass(frozen=True, slots=True)
class Minted:
    """What a token endpoint gave.

    refresh_token  replaces the one that was used; None: that one stays good
    """

    token: Token
    refresh_token: Secret | None = None


@dataclass(frozen=True, slots=True)
class Minting:
    """With what a token is minted.

    client  the OAuth client; None: nobody has configured one
    urls    addresses that settings replaced, by the name the provider gave them ("token_url")
    """

    grant: OAuthGrant
    client: OAuthClient | None
    urls: Mapping[str, str] = field(default_factory=dict)


BuildRequest: TypeAlias = Callable[[Ask, Offer, Access], UpstreamRequest | Failure]
Mint: TypeAlias = Callable[[Transport, Minting, Instant], Awaitable[Minted | Failure]]
ReadFailure: TypeAlias = Callable[[Refusal, Offer, Instant], Failure]
ReadHeaders: TypeAlias = Callable[[Headers, Offer, Instant], tuple[Quota, ...]]
ReadQuotas: TypeAlias = Callable[[Transport, Access, Instant], Awaitable[tuple[Quota, ...] | Failure]]
Discover: TypeAlias = Callable[[Transport, Access, Instant], Awaitable[tuple[Listed, ...] | Failure]]
Verify: TypeAlias = Callable[[Transport, Access, Instant], Awaitable[Verdict]]


def no_headers(headers: Headers, offer: Offer, now: Instant) -> tuple[Quota, ...]:
    """For providers whose response headers say nothing of what is left."""
    return ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Provider:
    """Everything the core knows of a provider.

    title         its name for people
    base_url      its public address; None: each account brings its own
    auth          which header carries the key unless the account says otherwise
    request       the upstream request for an ask of one of its models, or why there can be none (blame REQUEST)
    read_failure  its error documents to our Failure; total: never raises, whatever the bytes
    read_headers  what the headers of any of its responses say of its limits; total
    quotas        asks what is left; None where the provider cannot be asked
    discover      asks which models an account has; None where the provider cannot be asked
    verify        whether a credential works, without spending tokens; what it learns of the account
    mint          a new token from a grant. A failure's blame says what it means: ACCOUNT a dead grant, CONFIG a wrong
                  client, which is nobody's account's fault, PROVIDER or NETWORK that it is worth another try later
    needs         what `verify` must have learnt of an account before it can be asked anything else
    listed_only   whether an account serves only what its own list names, once that was read
    counts        whether it has a `count_tokens` endpoint
    passes_back   how the names of response headers begin that go back to the client, besides those that always do
    comfort       requests in flight per account from which another account is preferred; None: no opinion
    """

    name: ProviderName
    title: str
    base_url: str | None
    auth: Auth
    sign_in: SignIn
    serves: Serves
    request: BuildRequest
    read_failure: ReadFailure
    verify: Verify
    read_headers: ReadHeaders = no_headers
    quotas: ReadQuotas | None = None
    discover: Discover | None = None
    counts: bool = False
    passes_back: tuple[str, ...] = ()
    comfort: int | None = None
    mint: Mint | None = None
    needs: tuple[str, ...] = ()
    listed_only: bool = False
