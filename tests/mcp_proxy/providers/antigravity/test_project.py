from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from accounts.model import Verdict, Works
from mcp_proxy.core.http import NetworkTrouble, Trouble
from mcp_proxy.providers.antigravity import PROVIDER
from mcp_proxy.providers.antigravity.project import project_in, verify
from tests.fakes import FakeResponse, FakeTransport, answering
from tests.mcp_proxy.providers.antigravity.kit import ACCESS, NOW, sample

LOADED, SET_UP = sample("load_code_assist.json"), sample("onboard_user.json")
NEW = {key: value for key, value in LOADED.items() if key != "cloudaicompanionProject"}
STRANGER = replace(ACCESS, known={})
REFUSALS = {case["what"]: case for case in sample("refusals.json")}
PRO = {"plan": "Google AI Pro", "tier": "pro"}


async def test_an_account_that_has_a_project_works() -> None:
    transport = answering(LOADED)
    assert await verify(transport, STRANGER, NOW) == Verdict(
        Works.YES, learnt={"project": "cogent-sample-4mnnp", **PRO}
    )
    (request,) = transport.asked
    assert request.url == f"{ACCESS.base_url}/v1internal:loadCodeAssist"
    assert json.loads(request.body) == {"metadata": {"ideType": "ANTIGRAVITY"}}
    assert PROVIDER.needs == ("project",)


@pytest.mark.parametrize(
    ("document", "project"),
    [
        ({"cloudaicompanionProject": {"id": "a-b"}}, "a-b"),
        ({"cloudaicompanionProject": "", "projectId": "a-b"}, "a-b"),
        ({"project": " a-b "}, "a-b"),
        ({"cloudaicompanionProject": {"id": 7}}, ""),
        ({"cloudaicompanionProject": "a\nb"}, ""),
        ({}, ""),
    ],
)
def test_a_project_is_named_in_several_ways(document: Any, project: str) -> None:
    assert project_in(document) == project


async def test_an_account_without_a_project_is_given_one() -> None:
    transport = answering(NEW, SET_UP)
    verdict = await verify(transport, STRANGER, NOW)
    assert (verdict.works, verdict.learnt["project"]) == (Works.YES, "cogent-sample-4mnnp")
    assert transport.asked[1].url == f"{ACCESS.base_url}/v1internal:onboardUser"
    body = json.loads(transport.asked[1].body)
    assert body["tierId"] == "free-tier" and "cloudaicompanionProject" not in body


async def test_setting_up_is_asked_for_again_and_then_left_to_google() -> None:
    waiting = {"name": "operations/abc", "done": False}
    slow = answering(NEW, waiting, SET_UP)
    assert (await verify(slow, STRANGER, NOW)).works is Works.YES
    never = answering(NEW, waiting)
    verdict = await verify(never, STRANGER, NOW)
    assert verdict.works is Works.UNREACHABLE and "try again" in verdict.detail
    assert len(never.asked) == 3 and dict(verdict.learnt) == PRO


async def test_a_project_that_is_known_stays_where_google_names_none() -> None:
    transport = answering(NEW)
    verdict = await verify(transport, ACCESS, NOW)
    assert (verdict.works, verdict.learnt["project"], len(transport.asked)) == (Works.YES, "cogent-sample-4mnnp", 1)


async def test_a_personal_account_that_is_set_up_without_a_project_shares_one() -> None:
    verdict = await verify(answering(NEW, {"done": True}), STRANGER, NOW)
    assert (verdict.works, verdict.learnt["project"]) == (Works.YES, "aicode-consumers")


AWAY = {"tierId": "free-tier", "reasonCode": "UNSUPPORTED_LOCATION", "reasonMessage": "Not here."}
OWN = {"id": "standard-tier", "isDefault": True, "userDefinedCloudaicompanionProject": True}


@pytest.mark.parametrize(
    ("loaded", "says"),
    [
        ({"allowedTiers": [OWN], "ineligibleTiers": [AWAY]}, "Not here."),
        ({"ineligibleTiers": [AWAY]}, "at home"),
        ({"allowedTiers": [OWN], "ineligibleTiers": [{"reasonCode": "DASHER_USER"}]}, "DASHER_USER"),
        ({"allowedTiers": [OWN]}, "project of its own"),
        ({}, "neither"),
    ],
)
async def test_why_there_is_no_project_is_said(loaded: Any, says: str) -> None:
    verdict = await verify(answering(loaded, {"done": True}), STRANGER, NOW)
    assert verdict.works is Works.UNREACHABLE and says in verdict.detail
    assert "project" not in verdict.learnt


@pytest.mark.parametrize(
    ("what", "works", "says"),
    [
        ("the account has to be verified", Works.REFUSED, "https://accounts.google.com/signin/continue"),
        ("banned", Works.REFUSED, "appeal"),
        ("the token is over", Works.REFUSED, "credentials"),
        ("not offered here", Works.UNREACHABLE, "location"),
        ("forbidden, and nobody knows why", Works.UNREACHABLE, "permission"),
        ("a 429 without a word", Works.UNREACHABLE, "exhausted"),
        ("a page of the front end", Works.UNREACHABLE, "502"),
    ],
)
@pytest.mark.parametrize("before", [(), (FakeResponse(200, (), (json.dumps(NEW).encode(),)),)])
async def test_what_a_refusal_says_of_the_account(
    what: str, works: Works, says: str, before: tuple[FakeResponse, ...]
) -> None:
    case = REFUSALS[what]
    body = case["body"] if isinstance(case["body"], str) else json.dumps(case["body"])
    transport = FakeTransport([*before, FakeResponse(case["status"], (), (body.encode(),))])
    verdict = await verify(transport, STRANGER, NOW)
    assert verdict.works is works and says in verdict.detail


async def test_an_account_nobody_reaches_is_no_refused_one() -> None:
    verdict = await verify(FakeTransport([NetworkTrouble(Trouble.DNS, sent=False)]), STRANGER, NOW)
    assert verdict.works is Works.UNREACHABLE and verdict.detail


@pytest.mark.parametrize(
    ("loaded", "learnt"),
    [
        (
            {"paidTier": {"id": "g1-ultra-tier", "name": "Google AI Ultra"}},
            {"plan": "Google AI Ultra", "tier": "ultra"},
        ),
        ({"currentTier": {"id": "free-tier", "name": "Antigravity"}}, {"plan": "Antigravity", "tier": "free"}),
        ({"currentTier": {"id": "standard-tier"}}, {"tier": "pro"}),
        ({"allowedTiers": [{"id": "free-tier", "isDefault": True}]}, {"tier": "free"}),
        ({"currentTier": {"id": "odd"}}, {}),
        ({}, {}),
    ],
)
async def test_the_plan(loaded: Any, learnt: dict[str, str]) -> None:
    verdict = await verify(answering({**loaded, "cloudaicompanionProject": "p"}), STRANGER, NOW)
    assert dict(verdict.learnt) == {"project": "p", **learnt}


async def test_an_organisations_account_is_told_where_it_is_served() -> None:
    verdict = await verify(answering({**LOADED, "gcpManaged": True}), STRANGER, NOW)
    assert verdict.works is Works.YES and "https://cloudcode-pa.googleapis.com" in verdict.detail
    there = replace(STRANGER, base_url="https://cloudcode-pa.googleapis.com")
    assert (await verify(answering({**LOADED, "gcpManaged": True}), there, NOW)).detail == ""
