"""What the client is told when nobody answered."""

from __future__ import annotations

import dataclasses

import pytest

from mcp_proxy.core.failure import Blame, Failure, error_type
from mcp_proxy.core.ids import AccountId
from mcp_proxy.core.quota import ACCOUNT
from mcp_proxy.core.time import Instant
from mcp_proxy.gateway.verdict import draining, exhausted, nobody, unknown_model
from mcp_proxy.routing.facts import Candidate, Decision, Rank, Reason, Refused
from tests.mcp_proxy.routing.seats import NOW, OFFER, at


def failed(status: int, blame: Blame = Blame.PROVIDER, limit: bool = False) -> Failure:
    return Failure(blame, status, error_type(status), f"said {status}", ACCOUNT if limit else None)


def decision(*refusals: tuple[str, Reason, float | None], left: str = "") -> Decision:
    refused = tuple(
        Refused(AccountId(name), reason, None if until is None else at(until), "9 tokens > 5")
        for name, reason, until in refusals
    )
    untils = [refusal.until for refusal in refused if refusal.until is not None]
    rank = Rank(0, False, False, False, True, 1, 0, 0)
    candidates = tuple(Candidate(rank, AccountId(name), OFFER) for name in left)
    return Decision(candidates, refused, min(untils) if untils else None)


BROKEN, PROBING = Reason.BREAKER, Reason.PROBING
OFF, BAD, LIMITED, NOT_SERVED, SMALL, TRIED = (
    Reason.DISABLED, Reason.INVALID, Reason.LIMITED, Reason.NOT_SERVED, Reason.TOO_SMALL, Reason.TRIED
)  # fmt: skip
NO_LOGIN, NOT_LOCAL = Reason.NO_LOGIN, Reason.NOT_LOCAL

VERDICTS: list[tuple[str, Decision, dict[str, Failure], int]] = [
    ("no account at all", decision(), {}, 404),
    ("nobody has the model", decision(("a", NOT_SERVED, None)), {}, 404),
    (
        "an upstream said that it has no such model",
        decision(("a", NOT_SERVED, None)),
        {"a": failed(404, Blame.MODEL, limit=True)},
        404,
    ),
    ("those that have it want a login", decision(("a", NO_LOGIN, None), ("b", NOT_LOCAL, None)), {}, 503),
    ("one wants a login, one has no such model", decision(("a", NO_LOGIN, None), ("b", NOT_SERVED, None)), {}, 404),
    ("one wants a login, one is exhausted", decision(("a", NO_LOGIN, None), ("b", LIMITED, 10)), {}, 429),
    ("one wants a login, one was down", decision(("a", NO_LOGIN, None), ("b", TRIED, None)), {"b": failed(529)}, 529),
    ("all switched off", decision(("a", OFF, None), ("b", NOT_SERVED, None)), {}, 503),
    ("all refused", decision(("a", BAD, None), ("b", OFF, None)), {"a": failed(401, Blame.ACCOUNT)}, 503),
    ("all exhausted", decision(("a", LIMITED, 30), ("b", LIMITED, 10)), {}, 429),
    ("exhausted beside useless ones", decision(("a", LIMITED, 30), ("b", OFF, None), ("c", NOT_SERVED, None)), {}, 429),
    ("exhausted just now", decision(("a", LIMITED, 30)), {"a": failed(429, Blame.ACCOUNT, limit=True)}, 429),
    ("exhausted, but one was down", decision(("a", LIMITED, 30), ("b", TRIED, None)), {"b": failed(500)}, 502),
    ("exhausted, but one was overloaded", decision(("a", LIMITED, 30), ("b", TRIED, None)), {"b": failed(529)}, 529),
    ("any overload first", decision(("a", TRIED, None), ("b", TRIED, None)), {"a": failed(504), "b": failed(529)}, 529),
    ("then any time-out", decision(("a", TRIED, None), ("b", TRIED, None)), {"a": failed(504), "b": failed(500)}, 504),
    ("then 502, whatever it was", decision(("a", TRIED, None)), {"a": failed(500)}, 502),
    ("the way there", decision(("a", TRIED, None)), {"a": failed(502, Blame.NETWORK)}, 502),
    ("a model that is at fault is told as such", decision(("a", TRIED, None)), {"a": failed(404, Blame.MODEL)}, 404),
    ("the request fits none", decision(("a", SMALL, None), ("b", SMALL, None)), {}, 400),
    ("it fits one that is exhausted", decision(("a", SMALL, None), ("b", LIMITED, 30)), {}, 429),
    ("it fits one that was down", decision(("a", SMALL, None), ("b", TRIED, None)), {"b": failed(529)}, 529),
    ("all left alone", decision(("a", BROKEN, 8), ("b", PROBING, 1)), {}, 502),
    ("a window is tried just now", decision(("a", LIMITED, 8), ("b", PROBING, 1)), {}, 429),
    ("left alone beside a limit", decision(("a", BROKEN, 8), ("b", LIMITED, 900)), {}, 502),
    ("left alone since it failed", decision(("a", TRIED, None), ("b", BROKEN, 8)), {"a": failed(504)}, 504),
    ("attempts spent, some left", decision(("a", TRIED, None), left="b"), {"a": failed(500)}, 502),
    ("attempts spent on limits' neighbours", decision(("a", LIMITED, 9), left="b"), {"a": failed(500)}, 502),
]


@pytest.mark.parametrize(("about", "made", "failures", "status"), VERDICTS, ids=[row[0] for row in VERDICTS])
def test_the_verdict(about: str, made: Decision, failures: dict[str, Failure], status: int) -> None:
    verdict = nobody("m", made, {AccountId(name): failure for name, failure in failures.items()}, NOW)
    assert (verdict.status, verdict.type) == (status, error_type(status))


@pytest.mark.parametrize(
    ("statuses", "told"), [((502, 529, 504), 529), ((502, 504), 504), ((500, 502), 502), ((None,), 502)]
)
def test_who_is_left_alone_is_told_by_what_they_failed_with(statuses: tuple[int | None, ...], told: int) -> None:
    refused = tuple(
        Refused(AccountId(str(number)), BROKEN, at(7.2 + number), f"failed with {status}", status)
        for number, status in enumerate(statuses)
    )
    verdict = nobody("m", Decision((), refused, at(7.2)), {}, NOW)
    assert (verdict.status, verdict.type, verdict.headers) == (told, error_type(told), (("retry-after", "8"),))
    assert "in 8s" in verdict.message and (told == 502 or f"failed with {told}" in verdict.message)


def test_without_a_usable_account_a_client_should_not_retry() -> None:
    verdict = nobody("m", decision(("a", BAD, None)), {}, NOW)
    assert verdict.headers == (("x-should-retry", "false"),)
    assert "proxy accounts list" in verdict.message
    gone = Refused(AccountId("off"), OFF)
    for reason in (NO_LOGIN, NOT_LOCAL):
        barred = Refused(AccountId("plan"), reason, None, "the request brings no login")
        told = nobody("m", Decision((), (gone, barred)), {}, NOW)
        assert (told.status, "brings no login" in told.message) == (503, True)


@pytest.mark.parametrize(
    ("until", "seconds", "never"),
    [(0.2, "1", False), (9.1, "10", False), (60.0, "60", False), (60.1, "61", True), (-5, "1", False)],
)
def test_when_to_come_back_is_whole_and_never_too_early(until: float, seconds: str, never: bool) -> None:
    headers = dict(exhausted("m", at(until), NOW).headers)
    assert headers["retry-after"] == seconds
    assert headers.get("x-should-retry") == ("false" if never else None)


def test_an_exhausted_pool_names_the_model_the_reset_and_the_word_that_scripts_look_for() -> None:
    made = decision(("a", LIMITED, 4000), ("b", LIMITED, 3723.5))
    message = nobody("claude-opus-9", made, {}, Instant(1_800_000_000.0)).message
    assert "RESOURCE_EXHAUSTED" in message and "claude-opus-9" in message
    assert "2027-01-15T09:02:04Z" in message and "1h02m" in message


@pytest.mark.parametrize(
    ("seconds", "told"), [(5, "in 5s"), (65, "in 1m05s"), (3600, "in 1h00m"), (90_000, "in 25h00m")]
)
def test_a_span_for_people(seconds: int, told: str) -> None:
    assert exhausted("m", at(seconds), NOW).message.endswith(told)


def test_what_is_too_long_says_so_in_the_words_clients_know() -> None:
    assert nobody("m", decision(("a", SMALL, None)), {}, NOW).message == "prompt is too long: 9 tokens > 5 maximum"


def test_an_unknown_model_and_a_server_that_goes() -> None:
    assert (unknown_model("x").status, unknown_model("x").message) == (404, "model: x")
    assert (draining().status, draining().type) == (529, "overloaded_error")


def test_what_the_first_to_open_told_of_its_windows_goes_back_with_the_reset() -> None:
    told = (("retry-after", "5"), ("x-should-retry", "true"), ("anthropic-ratelimit-unified-status", "rejected"))
    met = {AccountId("a"): dataclasses.replace(failed(429, Blame.ACCOUNT, limit=True), headers=told)}
    first = nobody("m", decision(("a", LIMITED, 10), ("b", LIMITED, 30)), met, NOW)
    assert first.headers == (("retry-after", "10"), ("anthropic-ratelimit-unified-status", "rejected"))
    later = nobody("m", decision(("a", LIMITED, 30), ("b", LIMITED, 10)), met, NOW)
    assert later.headers == (("retry-after", "10"),)
