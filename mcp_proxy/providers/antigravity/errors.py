"""Google's refusals to our Failure: what each kind closes, and for how long."""

from __future__ import annotations

from mcp_proxy.core.failure import Blame, Failure, Refusal, error_type
from mcp_proxy.core.http import Headers
from mcp_proxy.core.provider import Offer
from mcp_proxy.core.quota import ACCOUNT, Bucket, absence, model_bucket
from mcp_proxy.core.time import Instant, after
from mcp_proxy.dialects.gemini.profile import Family
from mcp_proxy.dialects.native import returning_headers
from mcp_proxy.providers._errors import LONGEST_MESSAGE
from mcp_proxy.providers._times import HOUR, MINUTE
from mcp_proxy.providers.antigravity.families import pool_of, window
from mcp_proxy.providers.antigravity.told import Kind, Told, kind, read
from mcp_proxy.providers.antigravity.waits import in_seconds, wait

BARE_SECONDS = 10.0
"""How long a 429 without a word closes a model: it is no proof that anything is used up, and often untrue."""

AS_USED_UP = 5 * MINUTE
"""A rate that is exhausted for longer than this is a quota, whatever it is called."""

APART_SECONDS = 30 * MINUTE
"""How long an account is left alone that its project, its licence or its place keeps from being served."""

VERIFY = "Google wants this account to be verified"
BANNED = "Google has disabled this account for a violation of its terms; an appeal is made in Google's own app"
VERSION = "Google refuses this client version; raise [providers.antigravity] client_version"


def read_failure(refusal: Refusal, offer: Offer, now: Instant) -> Failure:
    """What a refusal means. Total."""
    told = read(refusal.status, refusal.body)
    return _Reader(refusal, told, offer, now, wait(told, refusal, now)).failure()


class _Reader:
    """One refusal on its way to a Failure."""

    __slots__ = ("_now", "_offer", "_refusal", "_seconds", "_told")

    def __init__(self, refusal: Refusal, told: Told, offer: Offer, now: Instant, seconds: float | None) -> None:
        self._refusal, self._told, self._offer, self._now, self._seconds = refusal, told, offer, now, seconds

    @property
    def _headers(self) -> Headers:
        return tuple(pair for pair in returning_headers(self._refusal.headers) if pair[0] != "content-type")

    @property
    def _retry_at(self) -> Instant | None:
        return in_seconds(self._now, self._seconds)

    def failure(self) -> Failure:
        told = self._told
        match kind(told):
            case Kind.RATE if self._seconds is None or self._seconds < AS_USED_UP:
                return self._closed(model_bucket(self._offer.model), self._retry_at)
            case Kind.RATE | Kind.QUOTA:
                return self._used_up()
            case Kind.BARE_429:
                seconds = BARE_SECONDS if self._seconds is None else min(self._seconds, BARE_SECONDS)
                return self._closed(model_bucket(self._offer.model), after(self._now, seconds))
            case Kind.CAPACITY:
                return self._trouble(529)
            case Kind.TOKEN:
                return Failure(Blame.TOKEN, 401, "authentication_error", told.message)
            case Kind.DEAD:
                return Failure(Blame.ACCOUNT, 401, "authentication_error", told.message)
            case Kind.VERIFICATION:
                return Failure(Blame.ACCOUNT, 403, "permission_error", verification(told))
            case Kind.BANNED:
                return Failure(Blame.ACCOUNT, 403, "permission_error", _both(BANNED, told))
            case Kind.LICENCE | Kind.LOCATION:
                return self._closed(ACCOUNT, after(self._now, self._seconds or APART_SECONDS), 403)
            case Kind.FORBIDDEN:
                # Nobody knows whose fault it is: the pair is closed for longer each time.
                return self._closed(model_bucket(self._offer.model), self._retry_at, 403)
            case Kind.NOT_FOUND:
                limit, until = absence(self._offer.model), after(self._now, HOUR)
                return Failure(Blame.MODEL, 404, error_type(404), told.message, limit, until, headers=self._headers)
            case Kind.MISDIRECTED:
                message = f"no Cloud Code API at this address (HTTP {self._refusal.status}): {told.message}"
                return Failure(Blame.CONFIG, 502, error_type(502), message[:LONGEST_MESSAGE])
            case Kind.VERSION:
                return Failure(Blame.CONFIG, 502, error_type(502), _both(VERSION, told))
            case Kind.SIGNATURE:
                return self._request(told.message, unsigned=True)
            case Kind.TOO_LONG:
                # In these words a client knows that it must compact.
                known = "prompt is too long" in told.message
                return self._request(told.message if known else f"prompt is too long: {told.message}")
            case Kind.REQUEST:
                return self._request(told.message)
            case _:
                return self._trouble(504 if told.status == 408 else told.status)

    def _used_up(self) -> Failure:
        """The window that is empty, unless it is another model's, which has searched in this one's place."""
        told = self._told.model
        # A name of Google's own making (`MODEL_PLACEHOLDER_M26`) tells no family: then it is the model that was asked.
        model = told if any(family in told for family in Family) else self._offer.model
        limit = window(pool_of(model), self._seconds)
        if limit in self._offer.buckets:
            return self._closed(limit, self._retry_at)
        if model == self._offer.model:
            return self._closed(model_bucket(self._offer.model), self._retry_at)
        message, retry_at = self._told.message, self._retry_at
        return Failure(Blame.PROVIDER, 429, error_type(429), message, retry_at=retry_at, headers=self._headers)

    def _closed(self, limit: Bucket, until: Instant | None, status: int = 429) -> Failure:
        return Failure(
            Blame.ACCOUNT, status, error_type(status), self._told.message, limit, until, headers=self._headers
        )

    def _request(self, message: str, *, unsigned: bool = False) -> Failure:
        status = self._told.status if 400 <= self._told.status < 500 else 400
        shown = self._told.type or error_type(status)
        return Failure(Blame.REQUEST, status, shown, message, headers=self._headers, unsigned=unsigned)

    def _trouble(self, status: int) -> Failure:
        shown = status if status in (500, 502, 503, 504, 529) else 502
        message, retry_at = self._told.message, self._retry_at
        return Failure(Blame.PROVIDER, shown, error_type(shown), message, retry_at=retry_at, headers=self._headers)


def verification(told: Told) -> str:
    """What a person has to do. The address comes whole, or not at all."""
    return f"{VERIFY}: open {told.url}" if told.url else _both(VERIFY, told)


def _both(ours: str, told: Told) -> str:
    return f"{ours}: {told.message}"[:LONGEST_MESSAGE]
