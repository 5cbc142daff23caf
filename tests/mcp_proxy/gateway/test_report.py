"""The documents that tell how the accounts are."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from mcp_proxy.core.ids import ModelId, ProviderName
from mcp_proxy.core.provider import Offer, Serves, Size
from mcp_proxy.core.quota import ACCOUNT, BILLING, Bucket, absence, model_bucket
from mcp_proxy.gateway import report
from mcp_proxy.routing.budget import budget
from mcp_proxy.routing.facts import Policy, Route, Seat
from mcp_proxy.routing.serving import resolve
from tests.mcp_proxy.routing.seats import FIVE_HOURS, MINUTE, MODEL, NOW, OFFER, WEEK, at, closed, failing, quota, seat

OTHER = Offer(ModelId("n"), (Bucket("n's"),))
POLICY = Policy(soft_limit=0.2)
ZAI, KIMI = ProviderName("zai"), ProviderName("kimi")
USED = {"last_used": at(-60)}
CATCH_ALL: dict[str, Any] = {"offers": (), "serves": Serves(any=True), "any": True}

WEEKLY = budget("7d", 7 * 86_400.0, 100, shared=True)

STATUSES: list[tuple[str, Seat, str]] = [
    ("never read, never used", seat("a"), "unknown"),
    ("nothing but our own count", seat("a", budgets=(WEEKLY,), quotas=quota(1.0, bucket=WEEKLY.bucket)), "unknown"),
    ("our own count is at its end", seat("a", budgets=(WEEKLY,), quotas=quota(0.0, bucket=WEEKLY.bucket), **USED),
     "rate_limited"),
    ("used", seat("a", **USED), "ok"),
    ("read", seat("a", quotas=quota(0.9)), "ok"),
    ("read, and it said nothing", seat("a", quotas=quota(None)), "ok"),
    ("at the soft limit", seat("a", quotas=quota(0.2)), "soft_limited"),
    ("one of two windows at it", seat("a", quotas=quota(0.9) | quota(0.1, bucket=WEEK)), "soft_limited"),
    ("used up", seat("a", quotas=quota(0.0)), "rate_limited"),
    ("closed", seat("a", closed=closed(60)), "rate_limited"),
    ("closed once", seat("a", closed=closed(-60)), "ok"),
    ("another model is open", seat("a", offers=[OFFER, OTHER], quotas=quota(0.0)), "ok"),
    ("another is soft", seat("a", offers=[OFFER, OTHER], quotas=quota(0.0) | quota(0.1, bucket=OTHER.draws_on[0])),
     "soft_limited"),
    ("a model it does not have is no reason", seat("a", offers=[OFFER, OTHER], quotas=quota(0.0),
     closed=closed(99, bucket=absence(OTHER.model))), "rate_limited"),
    ("switched off", seat("a", enabled=False, invalid="x", closed=closed(60)), "disabled"),
    ("refused", seat("a", invalid="x", closed=closed(60)), "invalid"),
    ("one that serves every id", seat("a", **CATCH_ALL, **USED), "ok"),
    ("and is closed", seat("a", **CATCH_ALL, **USED, closed=closed(60)), "rate_limited"),
]  # fmt: skip


@pytest.mark.parametrize(("about", "held", "status"), STATUSES, ids=[row[0] for row in STATUSES])
def test_the_status_of_an_account(about: str, held: Seat, status: str) -> None:
    assert report.status(held, POLICY, NOW) == status


@pytest.mark.parametrize(
    ("seats", "draining", "health"),
    [
        ([], False, "down"),
        ([seat("a")], False, "ok"),
        ([seat("a")], True, "down"),
        ([seat("a", quotas=quota(0.1))], False, "ok"),
        ([seat("a"), seat("b", closed=closed(60))], False, "degraded"),
        ([seat("a", closed=closed(60))], False, "degraded"),
        ([seat("a"), seat("b", invalid="x")], False, "degraded"),
        ([seat("a"), seat("b", enabled=False)], False, "ok"),
        ([seat("a", invalid="x"), seat("b", enabled=False)], False, "down"),
        ([seat("a", breaker=failing(4, NOW))], False, "ok"),
        ([seat("a"), seat("b", breaker=failing(5, NOW, 9))], False, "degraded"),
        ([seat("a"), seat("b", address=failing(5, NOW, -9))], False, "degraded"),
        ([seat("a"), seat("b", enabled=False, breaker=failing(5, NOW, 9))], False, "ok"),
    ],
    ids=[
        "no account", "open", "draining", "soft", "one closed", "all closed", "one refused", "one off", "none usable",
        "failing", "open", "half-open upstream", "open and off",
    ],
)  # fmt: skip
def test_health(seats: list[Seat], draining: bool, health: str) -> None:
    assert report.health(tuple(seats), POLICY, NOW, draining=draining) == health


MODELS: list[tuple[str, Seat, dict[str, Any]]] = [
    ("never read", seat("a"), {"remaining": "?", "remaining_fraction": None, "resets_at": None, "limited_until": None}),
    ("read", seat("a", quotas=quota(0.756)), {"remaining": "76%", "remaining_fraction": 0.756, "soft_limited": False,
     "resets_at": "2027-01-15T08:10:00Z", "limited_until": None}),
    ("soft", seat("a", quotas=quota(0.2)), {"remaining": "20%", "soft_limited": True}),
    ("the lowest window counts", seat("a", quotas=quota(0.9) | quota(0.3, bucket=WEEK)), {"remaining": "30%"}),
    ("used up", seat("a", quotas=quota(0.0)), {"remaining": "0%", "remaining_fraction": 0.0,
     "limited_until": "2027-01-15T08:10:00Z", "resets_at": "2027-01-15T08:10:00Z"}),
    ("closed", seat("a", quotas=quota(0.9), closed=closed(30, bucket=WEEK)), {"remaining": "0%",
     "limited_until": "2027-01-15T08:00:30Z", "limited_by": "busy"}),
    ("a window that has started over", seat("a", quotas=quota(0.3, resets=-1)), {"remaining": "?", "resets_at": None}),
]  # fmt: skip


@pytest.mark.parametrize(("about", "held", "told"), MODELS, ids=[row[0] for row in MODELS])
def test_what_is_told_of_a_model(about: str, held: Seat, told: dict[str, Any]) -> None:
    document = report.model_limits(held, OFFER, POLICY, NOW)
    assert {name: document[name] for name in told} == told


def test_each_window_is_told_by_its_name() -> None:
    held = seat("a", quotas=quota(0.5) | quota(0.1, bucket=MINUTE))
    assert report.model_limits(held, OFFER, POLICY, NOW)["windows"] == [
        {"name": "5h", "remaining_fraction": 0.5, "resets_at": "2027-01-15T08:10:00Z"},
        {"name": "7d", "remaining_fraction": None, "resets_at": None},
    ]


def test_the_limits_document() -> None:
    pool = (
        seat("a", quotas=quota(0.9), last_used=at(-60)),
        seat("b", quotas=quota(0.1)),
        seat("c", closed=closed(60, bucket=ACCOUNT)),
        seat("d", provider="kimi", offers=[OFFER, OTHER], closed=closed(99, bucket=absence(OTHER.model))),
        seat("e", enabled=False),
        seat("f", invalid="revoked"),
        seat("g"),
    )
    document = report.limits(pool, POLICY, NOW)
    assert (document["schema_version"], document["timestamp"]) == (1, "2027-01-15T08:00:00Z")
    assert document["totals"] == {
        "accounts": 7, "available": 4, "rate_limited": 1, "soft_limited": 1, "invalid": 1, "disabled": 1, "unknown": 1
    }  # fmt: skip
    assert document["models"] == ["kimi/m", "zai/m"], "a model that is known to be absent is not listed"
    accounts = {account["id"]: account for account in document["accounts"]}
    assert list(accounts) == list("abcdefg")
    assert accounts["a"]["last_used"] == "2027-01-15T07:59:00Z"
    assert (accounts["g"]["last_used"], accounts["g"]["status"]) == (None, "unknown")
    assert (accounts["f"]["status"], accounts["f"]["error"]) == ("invalid", "revoked")
    assert list(accounts["d"]["limits"]) == ["kimi/m"]


def listed(*seats: Seat, for_claude: bool = False, policy: Policy | None = None) -> dict[str, Any]:
    resolved = None if policy is None else partial(resolve, pool=seats, policy=policy)
    entries = report.models(seats, policy or POLICY, NOW, for_claude=for_claude, resolved=resolved)
    assert [entry["id"] for entry in entries] == sorted(entry["id"] for entry in entries)
    return {entry["id"]: entry for entry in entries}


def test_a_model_is_listed_once_with_the_quota_of_its_best_account() -> None:
    pool = (seat("a", quotas=quota(0.2, resets=60)), seat("b", quotas=quota(0.7)), seat("c"))
    assert listed(*pool)["m"] == {
        "type": "model", "id": "m", "display_name": "m", "created_at": "1970-01-01T00:00:00Z",
        "served_by": ["zai/a", "zai/b", "zai/c"],
        "quota": {"remaining_fraction": 0.7, "resets_at": "2027-01-15T08:10:00Z"},
    }  # fmt: skip
    assert "quota" not in listed(seat("c"))["m"]


@pytest.mark.parametrize(
    "out",
    [
        seat("x", enabled=False),
        seat("x", invalid="revoked"),
        seat("x", closed=closed(60, bucket=absence(MODEL))),
        seat("x", closed=closed(60, bucket=absence(MODEL)) | closed(900)),
    ],
    ids=["off", "refused", "absent", "absent and closed for longer"],
)
def test_who_cannot_serve_lists_nothing(out: Seat) -> None:
    assert listed(out) == {}


def test_what_is_unknown_is_not_empty() -> None:
    out, unknown = seat("a", quotas=quota(0.0)), seat("b")
    assert "quota" not in listed(out, unknown)["m"], "the second may well serve"
    assert listed(out)["m"]["quota"]["remaining_fraction"] == 0.0
    assert listed(seat("a", quotas=quota(0.3)), unknown)["m"]["quota"]["remaining_fraction"] == 0.3


def test_breakers_are_told_by_account_and_by_upstream() -> None:
    shared = {"upstream": "zai x", "address": failing(3, NOW)}
    pool = (seat("a", breaker=failing(5, at(-2), 8), **shared), seat("b", **shared), seat("c", upstream="kimi y"))
    a, b, _ = report.limits(pool, POLICY, NOW)["accounts"]
    assert a["breaker"] == {
        "state": "open", "since": "2027-01-15T07:59:58Z", "until": "2027-01-15T08:00:08Z", "failures": 5,
        "error": "overloaded",
    }  # fmt: skip
    sound = {"state": "closed", "since": None, "until": None, "failures": 0, "error": None}
    assert (b["breaker"], b["upstream"], b["probation"]) == (sound, "zai x", 2)
    first, second = report.upstreams(pool, NOW)
    assert first == {"name": "kimi y", "accounts": ["c"], **sound}
    assert (second["name"], second["accounts"], second["state"]) == ("zai x", ["a", "b"], "degraded")


def test_a_closed_model_is_still_listed() -> None:
    entry = listed(seat("a", closed=closed(60, bucket=model_bucket(MODEL))))["m"]
    assert entry["quota"] == {"remaining_fraction": 0.0, "resets_at": "2027-01-15T08:01:00Z"}


def test_claude_code_is_shown_what_it_would_hide() -> None:
    pool = (
        seat("a", offers=[Offer(ModelId("glm"), display_name="GLM")]),
        seat("b", provider="kimi", offers=[Offer(ModelId("glm")), Offer(ModelId("k-claude"))]),
    )
    assert list(listed(*pool)) == ["glm", "k-claude"]
    shown = listed(*pool, for_claude=True)
    assert list(shown) == ["anthropic/kimi/glm", "anthropic/zai/glm", "glm", "k-claude"]
    assert shown["anthropic/zai/glm"]["display_name"] == "GLM"


def test_an_alias_is_listed_where_somebody_stands_behind_it() -> None:
    pool = (seat("a", offers=[Offer(ModelId("glm"))]), seat("b", provider="kimi", offers=[Offer(ModelId("k3"))]))
    aliases = {"plain": "glm", "bound": "zai/glm", "wrong": "kimi/glm", "gone": "x", "any-*": "glm", "size": "opus"}
    own = {KIMI: {"its-own": "k3", "its-*": "k3"}}
    told = listed(*pool, policy=Policy(aliases=aliases, own_aliases=own, providers=frozenset({ZAI, KIMI})))
    assert set(told) == {"glm", "k3", "plain", "bound", "its-own"}
    assert (told["bound"]["served_by"], told["its-own"]["served_by"]) == (["zai/a"], ["kimi/b"])


def test_a_model_is_listed_with_who_really_serves_it() -> None:
    small, large = ModelId("claude-haiku-1"), ModelId("claude-opus-1")
    pool = (
        seat("a", provider="anthropic", offers=[Offer(small), Offer(large)], quotas=quota(0.7)),
        seat("b", offers=[Offer(ModelId("glm"), (FIVE_HOURS,))], quotas=quota(0.2)),
    )
    policy = Policy(aliases={"claude-opus-*": "zai/glm"}, tiers={Size.HAIKU: Route(ZAI, None, "glm")}, substitutes=True,
                    providers=frozenset({ZAI}))  # fmt: skip
    for name in (small, large):
        entry = listed(*pool, policy=policy)[name]
        assert (entry["served_by"], entry["quota"]["remaining_fraction"]) == (["zai/b"], 0.2), name


@pytest.mark.parametrize(
    ("moment", "told"), [(None, None), (NOW, "2027-01-15T08:00:00Z"), (0.9, "1970-01-01T00:00:00Z")]
)
def test_a_moment_as_text(moment: Any, told: str | None) -> None:
    assert report.stamp(moment) == told


def test_the_buckets_of_a_model() -> None:
    assert OFFER.buckets == (ACCOUNT, BILLING, model_bucket(MODEL), absence(MODEL), FIVE_HOURS, WEEK, MINUTE)
