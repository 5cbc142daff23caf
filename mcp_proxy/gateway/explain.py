"""Why a request went where it went: every account once, chosen or refused, with one reason. Pure, and from what is
kept of it alone, so that it can be told of a request of last month too."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from mcp_proxy.core.ids import AccountId
from mcp_proxy.core.journal import Detail, Row, Standing, Step, unpack
from mcp_proxy.core.time import Instant
from mcp_proxy.gateway.report import stamp
from mcp_proxy.routing.facts import Seat


class Verdict(StrEnum):
    """An account's part in a request.

    SERVED     its answer is what the client got, whole or not
    FAILED     it was asked, and could not
    ABANDONED  it was asked, and the client left before it had said anything
    CANDIDATE  it could have been asked
    REFUSED    it could not
    """

    SERVED = "served"
    FAILED = "failed"
    ABANDONED = "abandoned"
    CANDIDATE = "candidate"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Line:
    """One account's part, and why.

    provider  empty where the account was gone when the request ended
    reason    SERVED: the answer's `x-proxy-reason`; FAILED: whose fault it was (`Blame`), or "limited"; ABANDONED:
              "client_gone"; REFUSED: `Reason`; CANDIDATE: the first field of the rank in which it is behind the one
              that was asked last; "max_attempts" where it was its turn, "gone" where it was removed before
    detail    more of it, for people
    until     when a refusal ends by itself
    rank      what the order is made from, by name, most important first; empty for one that was refused
    model     by which it was asked, or would have been
    step      how far down the chain of fallback models that stands; 0: it is what was asked for
    """

    account: str
    provider: str
    verdict: Verdict
    reason: str
    detail: str = ""
    until: Instant | None = None
    rank: Mapping[str, int] = field(default_factory=dict)
    model: str = ""
    step: int = 0


def explain(row: Row) -> list[Line]:
    """Every account once: who served, then those that were asked, in their order, then those that were not."""
    detail = unpack(row.detail)
    asked = list(_asked(row, detail))
    served = [line for line in asked if line.verdict is Verdict.SERVED]
    rest = {line.account for line in asked}
    others = [_other(each, detail) for each in last_standings(detail) if each.account not in rest]
    return [*served, *(line for line in asked if line not in served), *others]


def first_choice(detail: Detail) -> str | None:
    """The account that the kept ranks put first, weighed anew; None where none could be asked."""
    open_ = [each for each in detail.first if not each.reason]
    return min(open_, key=lambda each: (each.rank, each.account)).account if open_ else None


def last_standings(detail: Detail) -> list[Standing]:
    """What was last said of each account: the candidates first and best first."""
    latest = {each.account: each for each in (*detail.first, *detail.later)}
    return sorted(latest.values(), key=lambda each: (bool(each.reason), each.rank))


def _asked(row: Row, detail: Detail) -> Iterator[Line]:
    """Those that were asked, each with how it ended for it."""
    steps: dict[str, list[Step]] = {}
    for step in detail.attempts:
        steps.setdefault(step.account, []).append(step)
    decided = {each.account: each for each in (*detail.first, *detail.later)}
    for account, own in steps.items():
        last, before = own[-1], decided.get(account)
        rank = dict(zip(detail.fields, last.rank, strict=False))
        verdict, reason = _ended(row, last)
        told = "; ".join(filter(None, (_told(own), passed(before))))
        until = last.until if last.until is not None or not passed(before) or before is None else before.until
        yield Line(account, last.provider, verdict, reason, told, until, rank, last.model, rank.get("step", 0))


def _ended(row: Row, step: Step) -> tuple[Verdict, str]:
    if step.outcome == "answered":
        return Verdict.SERVED, row.reason
    if step.outcome == "gone":
        return Verdict.ABANDONED, "client_gone"
    return Verdict.FAILED, "limited" if step.bucket is not None else step.blame or "unknown"


def _told(steps: list[Step]) -> str:
    """What an account said, attempt by attempt."""
    return ", then ".join(
        f"answered after {step.seconds:.2f} s"
        if step.outcome == "answered"
        else f"nothing within {step.seconds:.2f} s"
        if step.outcome == "gone"
        else f"no answer after {step.seconds:.2f} s"
        if step.blame == "network"
        else f"HTTP {step.status}{f' ({step.bucket})' if step.bucket else ''} after {step.seconds:.2f} s"
        for step in steps
    )


def _other(each: Standing, detail: Detail) -> Line:
    """One that was not asked."""
    rank = dict(zip(detail.fields, each.rank, strict=False))
    if each.reason:
        return Line(each.account, each.provider, Verdict.REFUSED, each.reason, each.detail, each.until)
    reason = behind(each, detail)
    step = rank.get("step", 0)
    return Line(
        each.account, each.provider, Verdict.CANDIDATE, reason, passed(each), each.until, rank, each.model, step
    )


def passed(each: Standing | None) -> str:
    """Why a candidate by a fallback model did not serve what was asked for; empty for any other."""
    return f"what was asked for: {each.detail}" if each is not None and each.detail and not each.reason else ""


def behind(each: Standing, detail: Detail) -> str:
    """The first field in which a candidate is behind the one that was asked last."""
    ahead = detail.attempts[-1].rank if detail.attempts else ()
    better = "gone" if detail.attempts and detail.attempts[-1].outcome != "failed" else "max_attempts"
    for name, own, other in zip(detail.fields, each.rank, ahead, strict=False):
        if own != other:
            return name if own > other else better
    return better


def document(row: Row, seats: Sequence[Seat]) -> dict[str, Any]:
    """The `/why` document. What an account is called is looked up now: the journal knows its id alone."""
    labels = {seat.id: seat.account.label for seat in seats}
    return {
        "schema_version": 1,
        "request_id": row.request,
        "upstream_request_id": row.upstream,
        "begun": stamp(row.begun),
        "seconds": {
            "first_content": None if row.first is None else round(row.first, 3),
            "total": round(row.total, 3),
        },
        "session": row.session or None,
        "key": row.key,
        "caller": row.caller or None,
        "asked": row.asked,
        "model": row.model,
        "provider": row.provider,
        "account": row.account,
        "label": labels.get(AccountId(row.account or "")),
        "outcome": row.outcome,
        "status": row.status,
        "reason": row.reason,
        "waited": row.waited,
        "stream": row.stream,
        "tokens": {
            "input": row.input,
            "cache_read": row.cache_read,
            "cache_write": row.cache_write,
            "output": row.output,
            "reasoning": row.reasoning,
        },
        "attempts": [
            {
                "account": step.account,
                "provider": step.provider,
                "label": labels.get(AccountId(step.account)),
                "model": step.model,
                "outcome": step.outcome,
                "status": step.status,
                "blame": step.blame,
                "limit": step.bucket,
                "until": stamp(step.until),
                "seconds": step.seconds,
            }
            for step in unpack(row.detail).attempts
        ],
        "accounts": [_shown(line, labels) for line in explain(row)],
    }


def _shown(line: Line, labels: Mapping[AccountId, str]) -> dict[str, Any]:
    return {
        "account": line.account,
        "provider": line.provider,
        "label": labels.get(AccountId(line.account)),
        "verdict": line.verdict.value,
        "reason": line.reason,
        "detail": line.detail or None,
        "until": stamp(line.until),
        "model": line.model or None,
        "step": line.step,
        "rank": dict(line.rank) or None,
    }
