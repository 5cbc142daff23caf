from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from mcp_proxy.core.ids import ModelId
from mcp_proxy.dialects.gemini.decode import GeminiDecoder
from mcp_proxy.dialects.gemini.encode import Encoded, encode
from mcp_proxy.dialects.gemini.images import image_request, read_images
from mcp_proxy.dialects.gemini.profile import profile_of
from mcp_proxy.sandbox import GoogleAccount, Sandbox, Thinking, ToolUse, Window, faults
from mcp_proxy.sandbox.accounts import Place
from mcp_proxy.sandbox.google import refusals as google
from mcp_proxy.sandbox.google.host import go_duration
from tests.mcp_proxy.sandbox.google import (
    CLAUDE,
    GEMINI,
    GPT,
    ask,
    call,
    chunks,
    envelope,
    error,
    parts,
    request,
    said,
    thinking,
    tools,
)

HOUR = 3600.0
IDE = {"metadata": {"ideType": "ANTIGRAVITY"}}
START = 1_790_000_000.0
IMAGE_ID = "image_gen/1790000000000/6f1e7d5a-3a6b-4c1e-9a68-0f6f6b8f0c11/12"
PAINTER, SEARCHER = "gemini-3.1-flash-image", "gemini-3.1-flash-lite"


class Clock:
    now = START

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def box(clock: Clock) -> AsyncIterator[Sandbox]:
    async with Sandbox(["antigravity"], clock=clock) as box:
        yield box


@pytest.fixture
def account(box: Sandbox) -> GoogleAccount:
    return box.account("antigravity", alias="a")


# Project and plan


async def test_an_account_tells_its_project_and_its_plan(box: Sandbox, account: GoogleAccount) -> None:
    loaded = (await call(box, account, "loadCodeAssist", IDE)).json()
    assert loaded["cloudaicompanionProject"] == account.project
    assert loaded["paidTier"]["id"] == "g1-pro-tier" and loaded["gcpManaged"] is False
    assert [tier["id"] for tier in loaded["allowedTiers"] if tier.get("isDefault")] == ["free-tier"]
    by_number = (await call(box, account, "loadCodeAssist", {"metadata": {"ideType": 9}, "mode": 1})).json()
    assert by_number == loaded
    stranger = {"metadata": {"ideType": "IDE_UNSPECIFIED", "pluginType": "GEMINI"}}
    assert "paidTier" not in (await call(box, account, "loadCodeAssist", stranger)).json()
    account.as_object, account.plan = True, None
    loaded = (await call(box, account, "loadCodeAssist", IDE)).json()
    assert loaded["cloudaicompanionProject"] == {"id": account.project} and "paidTier" not in loaded
    assert box.complaints == []


async def test_a_project_is_made_after_some_polls(box: Sandbox) -> None:
    account = box.account("antigravity", alias="new", project=None, polls=2)
    assert "cloudaicompanionProject" not in (await call(box, account, "loadCodeAssist", IDE)).json()
    body = {"tier_id": "free-tier", "metadata": {"ide_type": "ANTIGRAVITY"}}
    for _ in range(2):
        assert (await call(box, account, "onboardUser", body)).json()["done"] is False
        assert account.project is None
    done = (await call(box, account, "onboardUser", body)).json()
    assert done["done"] and done["response"]["cloudaicompanionProject"]["id"] == account.project is not None
    assert (await ask(box, account)).status_code == 200


async def test_a_project_is_not_made_where_there_is_none(box: Sandbox) -> None:
    account = box.account("antigravity", project=None, polls=0, stranded=True)
    loaded = (await call(box, account, "loadCodeAssist", IDE)).json()
    assert loaded["ineligibleTiers"][0]["reasonCode"] == "UNSUPPORTED_LOCATION"
    assert loaded["allowedTiers"][0]["id"] == "standard-tier" and loaded["allowedTiers"][0]["isDefault"]
    done = (await call(box, account, "onboardUser", {"tierId": "standard-tier", **IDE})).json()
    assert done == {"name": done["name"], "done": True, "response": {}}


async def test_onboarding_takes_no_project_and_may_want_a_person_first(box: Sandbox, account: GoogleAccount) -> None:
    body = {"tierId": "free-tier", **IDE}
    with_project = await call(box, account, "onboardUser", {**body, "cloudaicompanionProject": "x"})
    assert error(with_project)[0] == 400
    assert error(await call(box, account, "onboardUser", {**body, "tierId": "odd"}))[0] == 400
    account.script(google.verification(), on=Place.ONBOARD)
    refused = await call(box, account, "onboardUser", body)
    assert refused.status_code == 403
    (info,) = refused.json()["error"]["details"]
    assert info["reason"] == "VALIDATION_REQUIRED"
    assert info["metadata"]["validation_url"].startswith("https://accounts.google.com/")
    assert (await call(box, account, "onboardUser", body)).status_code == 200


# Models and what is left


async def test_models_come_by_id_with_what_is_left_of_their_family(box: Sandbox, clock: Clock) -> None:
    account = box.account("antigravity", windows=[Window("3p-5h", 1000, HOUR), Window("gemini-5h", 1000, 2 * HOUR)])
    account.drain("gemini-5h", to=0.25)
    listed = (await call(box, account, "fetchAvailableModels", {"project": account.project})).json()
    models = listed["models"]
    assert models[GEMINI]["quotaInfo"] == {"remainingFraction": 0.25, "resetTime": "2026-09-21T16:13:20Z"}
    assert models[CLAUDE]["quotaInfo"]["remainingFraction"] == 1 == models[GPT]["quotaInfo"]["remainingFraction"]
    assert models["chat_20706"]["isInternal"] and listed["imageGenerationModelIds"] == [PAINTER]
    assert listed["webSearchModelIds"] == [SEARCHER]
    assert listed["deprecatedModelIds"]["gemini-3.1-pro-high"]["newModelId"] in models
    account.drain("gemini-5h")
    spent = (await call(box, account, "fetchAvailableModels", {})).json()["models"][GEMINI]["quotaInfo"]
    assert spent == {"resetTime": "2026-09-21T16:13:20Z"}, "nought is left out"
    assert error(await call(box, account, "fetchAvailableModels", {"project": "foreign"}))[0] == 403


async def test_an_account_lists_and_serves_only_its_own_models(box: Sandbox) -> None:
    account = box.account("antigravity", models=[CLAUDE])
    assert list((await call(box, account, "fetchAvailableModels", {})).json()["models"]) == [CLAUDE]
    assert (await ask(box, account, None, CLAUDE)).status_code == 200
    assert error(await ask(box, account, None, GEMINI))[0] == 404


async def test_the_summary_tells_two_windows_of_two_families(box: Sandbox, account: GoogleAccount) -> None:
    account.drain("3p-5h")
    groups = (await call(box, account, "retrieveUserQuotaSummary", {"project": account.project})).json()["groups"]
    told = {bucket["bucketId"]: bucket for group in groups for bucket in group["buckets"]}
    assert list(told) == ["gemini-5h", "gemini-weekly", "3p-5h", "3p-weekly"]
    assert told["gemini-weekly"]["window"] == "weekly" and told["gemini-weekly"]["remainingFraction"] == 1
    assert "remainingFraction" not in told["3p-5h"] and "resetTime" in told["3p-5h"]
    account.unsummed, account.wrapped = ("3p",), "quotaSummary"
    short = (await call(box, account, "retrieveUserQuotaSummary", {})).json()["quotaSummary"]["groups"]
    assert [group["displayName"] for group in short] == ["Gemini Models"]


async def test_a_family_drains_by_its_tokens_until_it_is_refused_and_then_by_the_clock(
    box: Sandbox, clock: Clock
) -> None:
    account = box.account("antigravity", windows=[Window("3p-5h", 60, HOUR), Window("gemini-5h", 10_000, HOUR)])
    assert (await ask(box, account)).status_code == 200
    left = account.window("3p-5h").left
    assert left < 1
    while (await ask(box, account)).status_code == 200:
        pass
    assert account.pestered == 0, "the first to be refused could not know"
    clock.now += 100
    for model in (CLAUDE, GPT):
        refused = await ask(box, account, None, model)
        status, state, message = error(refused)
        assert (status, state) == (429, "RESOURCE_EXHAUSTED") and message.endswith("Resets in 58m20s.")
        info, retry = refused.json()["error"]["details"]
        assert info["reason"] == "QUOTA_EXHAUSTED" and info["metadata"]["model"] == model
        assert info["metadata"]["quotaResetDelay"] == "58m20s" and retry["retryDelay"] == "3500.000000000s"
        assert info["metadata"]["quotaResetTimeStamp"] == "2026-09-21T15:13:20Z"
    assert account.pestered == 2
    assert (await ask(box, account, None, GEMINI)).status_code == 200, "the other family goes on"
    clock.now += 3500
    assert (await ask(box, account)).status_code == 200
    assert account.pestered == 2 and box.complaints == []


async def test_what_a_conversation_sent_before_is_cached_and_free(box: Sandbox, account: GoogleAccount) -> None:
    long = "word " * 2000
    first = chunks(await ask(box, account, request(long)))[-1]["usageMetadata"]
    assert "cachedContentTokenCount" not in first and first["promptTokenCount"] > 2000
    used = account.window("3p-5h").used
    second = chunks(await ask(box, account, request(long)))[-1]["usageMetadata"]
    assert second["cachedContentTokenCount"] == second["promptTokenCount"]
    assert account.window("3p-5h").used - used < 100
    other = chunks(await ask(box, account, request(long, sessionId="-1")))[-1]["usageMetadata"]
    assert "cachedContentTokenCount" not in other
    another = box.account("antigravity", alias="b")
    assert "cachedContentTokenCount" not in chunks(await ask(box, another, request(long)))[-1]["usageMetadata"]


# Answers


async def test_claude_thinks_in_pieces_and_signs_at_the_end_of_its_thoughts(
    box: Sandbox, account: GoogleAccount
) -> None:
    got = await ask(box, account, request(generationConfig=thinking()))
    found = parts(got)
    thoughts = [part for part in found if part.get("thought")]
    assert all("thoughtSignature" not in part for part in thoughts[:-1]) and len(thoughts) > 2
    assert thoughts[-1]["text"] == "" and thoughts[-1]["thoughtSignature"].startswith("R")
    assert found[-1] == {"text": ""} and "You asked" in said(got)
    whole = chunks(got)
    assert [chunk["candidates"][0].get("finishReason") for chunk in whole] == [None] * (len(whole) - 1) + ["STOP"]
    assert whole[0]["usageMetadata"]["candidatesTokenCount"] == 1
    assert whole[0]["modelVersion"] == CLAUDE and whole[0]["responseId"]


async def test_gemini_signs_the_first_of_its_calls_and_gives_them_no_ids(box: Sandbox, account: GoogleAccount) -> None:
    asked = request("Please call the tool get_weather.", tools=tools(), generationConfig=thinking())
    got = parts(await ask(box, account, asked, GEMINI))
    (part,) = [part for part in got if "functionCall" in part]
    assert part["functionCall"] == {"name": "get_weather", "args": {"city": "get_weather"}}
    assert part["thoughtSignature"].startswith("C")
    (part,) = [part for part in parts(await ask(box, account, asked, CLAUDE)) if "functionCall" in part]
    assert part["functionCall"]["id"].startswith("toolu_vrtx_01") and "thoughtSignature" not in part


async def test_a_forced_call_is_made(box: Sandbox, account: GoogleAccount) -> None:
    calling = {"functionCallingConfig": {"mode": "ANY"}}
    got = parts(await ask(box, account, request("hello", tools=tools(), toolConfig=calling), GPT))
    assert [part["functionCall"]["name"] for part in got if "functionCall" in part] == ["get_weather"]


async def test_a_test_says_what_it_wants_said(box: Sandbox, account: GoogleAccount) -> None:
    account.say(Thinking("Hm."), "text", ToolUse("get_weather", {"city": "Oslo"}, id="mine"), stop_reason="max_tokens")
    got = await ask(box, account, request(generationConfig=thinking(), tools=tools()))
    assert said(got) == "text" and parts(got)[-2]["functionCall"]["id"] == "mine"
    assert chunks(got)[-1]["candidates"][0]["finishReason"] == "MAX_TOKENS"
    account.say("odd", stop_reason="RECITATION")
    assert chunks(await ask(box, account))[-1]["candidates"][0]["finishReason"] == "RECITATION"
    assert "simulated" in said(await ask(box, account)), "and then its own words again"


async def test_an_answer_comes_whole_to_who_does_not_stream(box: Sandbox, account: GoogleAccount) -> None:
    got = (await call(box, account, "generateContent", envelope(account))).json()
    assert got["response"]["candidates"][0]["finishReason"] == "STOP" and got["traceId"]


async def test_an_image_is_seen(box: Sandbox, account: GoogleAccount) -> None:
    image = {"inlineData": {"mimeType": "image/png", "data": "eA=="}}
    got = await ask(box, account, request(contents=[{"role": "user", "parts": [{"text": "What?"}, image]}]))
    assert said(got).endswith("You showed me image/png.")


async def test_a_picture_is_made_where_it_is_asked_for(box: Sandbox, account: GoogleAccount) -> None:
    encoded = image_request("a giraffe", profile_of(ModelId(PAINTER)), "16:9")
    body = envelope(account, json.loads(encoded.request), PAINTER, requestType="image_gen", requestId=IMAGE_ID)
    got = await call(box, account, "generateContent", body)
    (image,) = read_images(got.content, encoded)  # type: ignore[misc]
    assert image.media_type == "image/png" and image.data.startswith("iVBOR")
    assert error(await call(box, account, "generateContent", {**body, "model": GEMINI}))[0] == 400
    assert error(await ask(box, account, None, PAINTER))[0] == 400, "it does not talk"
    assert error(await call(box, account, "generateContent", {**body, "requestId": f"agent-{IMAGE_ID}"}))[0] == 400


async def test_the_web_is_searched_with_what_it_rests_on(box: Sandbox, account: GoogleAccount) -> None:
    tool = {"type": "web_search_20250305", "name": "web_search"}
    ask_ = {"max_tokens": 99, "tools": [tool], "messages": [{"role": "user", "content": "Wetter in Ålesund?"}]}
    encoded = encode(json.dumps(ask_).encode(), profile_of(ModelId(CLAUDE)))
    assert isinstance(encoded, Encoded)
    body = envelope(account, json.loads(encoded.request), SEARCHER, requestType="web_search", requestId=None)
    got = await call(box, account, "streamGenerateContent", body)
    decoder = GeminiDecoder(encoded, "asked", lambda prefix: f"{prefix}1")
    events = decoder.feed(got.content) + decoder.end()
    assert decoder.failure is None and "example.org" in str(events) and "Wetter in Ålesund?" in str(events)
    assert error(await call(box, account, "streamGenerateContent", {**body, "model": CLAUDE}))[0] == 400
    assert error(await call(box, account, "streamGenerateContent", {**body, "requestId": "x"}))[0] == 400


# Refusals


async def test_old_clients_get_a_note_in_place_of_an_answer(box: Sandbox, account: GoogleAccount) -> None:
    for agent in ("antigravity/1.15.8 darwin/arm64", "antigravity/hub/1.9 x", "antigravity/cli/1.0.9 (x)"):
        got = await call(box, account, "streamGenerateContent", envelope(account), agent)
        assert said(got).startswith("This version of Antigravity is no longer supported"), agent


async def test_a_wary_account_wants_a_person_of_one_client_and_not_of_the_other(box: Sandbox) -> None:
    account = box.account("antigravity", wary=True)
    assert error(await ask(box, account))[0] == 403
    cli = "antigravity/cli/1.2.17 (aidev_client)"
    assert (await call(box, account, "streamGenerateContent", envelope(account), cli)).status_code == 200


async def test_too_many_at_once_is_a_bare_429(box: Sandbox) -> None:
    account = box.account("antigravity", concurrency=0)
    refused = await ask(box, account)
    assert error(refused)[0] == 429 and "details" not in refused.json()["error"]


REFUSALS: list[tuple[faults.Fault, int, str | None, str]] = [
    (google.quota_exhausted(), 429, "QUOTA_EXHAUSTED", "Resets in 71h15m27s."),
    (google.rate_limit(), 429, "RATE_LIMIT_EXCEEDED", "Your quota will reset after 0s."),
    (google.bare_429(), 429, None, "Resource has been exhausted"),
    (google.no_capacity(), 503, "MODEL_CAPACITY_EXHAUSTED", "No capacity available"),
    (google.no_capacity(status=429), 429, "MODEL_CAPACITY_EXHAUSTED", "No capacity available"),
    (google.no_credits(), 429, "INSUFFICIENT_G1_CREDITS_BALANCE", ""),
    (google.verification(), 403, "VALIDATION_REQUIRED", "Verify your account"),
    (google.banned(), 403, None, "violation of Terms\n\t\tof Service"),
    (google.no_licence(), 403, None, "(#3501)"),
    (google.wrong_location(), 403, "UNSUPPORTED_LOCATION", "not available in your location"),
    (google.denied(), 403, None, "permission"),
    (google.expired_token(), 401, "ACCESS_TOKEN_EXPIRED", "invalid authentication credentials"),
    (google.not_found(), 404, None, "Requested entity was not found."),
    (google.bad_request(), 400, None, "invalid argument"),
    (google.bad_signature(), 400, None, "Invalid `signature` in `thinking` block"),
    (google.bad_thought_signature(), 400, None, "Thought signature is not valid"),
    (google.prompt_too_long(), 400, None, "prompt is too long"),
    (google.internal(), 500, None, "Internal"),
    (google.unavailable(), 503, None, "unavailable"),
]


@pytest.mark.parametrize(("fault", "status", "reason", "text"), REFUSALS, ids=lambda value: str(value)[:30])
async def test_it_refuses_as_it_is_told_to(
    box: Sandbox, account: GoogleAccount, fault: faults.Fault, status: int, reason: str | None, text: str
) -> None:
    account.script(fault, google.as_list(fault))
    refused = await ask(box, account)
    assert error(refused)[0] == status and text in error(refused)[2]
    details: list[dict[str, Any]] = refused.json()["error"].get("details", [])
    assert [each["reason"] for each in details if "reason" in each] == ([reason] if reason else [])
    assert (await ask(box, account)).json() == [refused.json()]
    assert (await ask(box, account)).status_code == 200


async def test_a_page_may_come_in_place_of_a_document(box: Sandbox, account: GoogleAccount) -> None:
    account.script(google.html_502())
    got = await ask(box, account)
    assert got.status_code == 502 and got.headers["content-type"].startswith("text/html")


NO_ANSWERS: list[tuple[faults.Fault, str]] = [
    (google.upgrade_text(), "raise it in the settings"),
    (google.empty_answer(), "empty answer"),
    (google.malformed_call(), "MALFORMED_FUNCTION_CALL"),
    (google.stream_error(), "currently unavailable"),
    (google.stream_error(0, 429, "Resource has been exhausted"), "exhausted"),
    (google.no_finish(), "cut short"),
    (faults.early_end(1), "cut short"),
    (faults.empty(), "could not be read"),
    (faults.html(), "could not be read"),
]


@pytest.mark.parametrize(("fault", "why"), NO_ANSWERS, ids=lambda value: str(value)[:30])
async def test_a_success_that_is_none_is_seen_by_who_reads_it(
    box: Sandbox, account: GoogleAccount, fault: faults.Fault, why: str
) -> None:
    account.script(fault)
    ask_ = {"max_tokens": 99, "messages": [{"role": "user", "content": "hello"}]}
    encoded = encode(json.dumps(ask_).encode(), profile_of(ModelId(CLAUDE)))
    assert isinstance(encoded, Encoded)
    decoder = GeminiDecoder(encoded, "asked", lambda prefix: f"{prefix}1")
    got = await ask(box, account, json.loads(encoded.request))
    assert got.status_code == 200
    decoder.feed(got.content)
    decoder.end()
    assert decoder.failure is not None and why in decoder.failure.message


async def test_a_stream_breaks_where_it_is_told_to(box: Sandbox, account: GoogleAccount) -> None:
    account.script(faults.cut_events(2), faults.cut(10, reset=True), faults.stall(1, 0.01), faults.drop())
    for _ in range(2):
        with pytest.raises((httpx.RemoteProtocolError, httpx.ReadError)):
            await ask(box, account)
    assert "simulated" in said(await ask(box, account))
    with pytest.raises(httpx.RemoteProtocolError):
        await ask(box, account)
    assert account.pending() == 0 and len(account.received) == 4


async def test_a_blocked_prompt_is_a_refusal(box: Sandbox, account: GoogleAccount) -> None:
    account.script(google.blocked())
    assert chunks(await ask(box, account)) == [{"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}}]


def test_durations_are_written_as_go_writes_them() -> None:
    told = [go_duration(seconds) for seconds in (256_527.791609974, 6236, 120, 1.5, 0.479417207)]
    assert told == ["71h15m27.791609974s", "1h43m56s", "2m0s", "1.5s", "479.417207ms"]
