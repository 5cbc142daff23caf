from __future__ import annotations

import json
import re
from typing import Any

import pytest

from mcp_proxy.core.failure import Blame, Failure
from mcp_proxy.core.ids import ModelId
from mcp_proxy.core.messages import Ask, Endpoint
from mcp_proxy.dialects.anthropic_ask import read_ask
from mcp_proxy.gateway.answer import Answer, read_answer
from mcp_proxy.providers.antigravity import PROVIDER
from mcp_proxy.providers.antigravity.models import offer
from tests.fakes import FakeResponse
from tests.mcp_proxy.providers.antigravity.kit import ACCESS, NOW, SONNET, built, sample, sent

PAINTER = offer(ModelId("gemini-3.1-flash-image"))
REFUSALS = {case["what"]: case for case in sample("refusals.json")}
PICTURE = {"inlineData": {"mimeType": "image/png", "data": "aGk="}}


def wanted(**fields: Any) -> Ask:
    ask = read_ask(Endpoint.IMAGES, json.dumps({"model": "picture-please", "prompt": "a cat", **fields}).encode(), ())
    assert isinstance(ask, Ask)
    return ask


def made(*parts: Any, **candidate: Any) -> dict[str, Any]:
    usage = {"promptTokenCount": 5, "candidatesTokenCount": 1290}
    content = {"content": {"parts": list(parts)}, "finishReason": "STOP", **candidate}
    return {"response": {"candidates": [content], "usageMetadata": usage}}


async def answered(document: Any) -> Answer | Failure:
    ask = wanted()
    translate = built(ask, PAINTER).translate
    assert translate is not None
    response = translate(FakeResponse(200, (), (json.dumps(document).encode(),)))
    return await read_answer(response, ask, PROVIDER, PAINTER, NOW)


def test_a_picture_is_asked_for_by_itself() -> None:
    request = built(wanted(aspect_ratio="16:9"), PAINTER)
    assert request.url == f"{ACCESS.base_url}/v1internal:generateContent"
    assert dict(request.headers)["accept"] == "application/json"
    sent = json.loads(request.body)
    assert re.fullmatch(r"image_gen/\d{13}/[0-9a-f-]{36}/12", sent.pop("requestId"))
    assert sent == {
        "project": "cogent-sample-4mnnp",
        "model": "gemini-3.1-flash-image",
        "userAgent": "antigravity",
        "requestType": "image_gen",
        "request": {
            "contents": [{"role": "user", "parts": [{"text": "a cat"}]}],
            "generationConfig": {"responseModalities": ["IMAGE"], "imageConfig": {"aspectRatio": "16:9"}},
        },
    }


def test_a_picture_to_change_goes_along() -> None:
    body = sent(wanted(input_image={"media_type": "image/png", "data": "aGk="}), PAINTER)
    assert body["request"]["contents"][0]["parts"] == [{"text": "a cat"}, PICTURE]


@pytest.mark.parametrize("field", ["prompt", "aspect_ratio", "input_image"])
def test_what_is_no_wish_is_the_clients_fault(field: str) -> None:
    failure = PROVIDER.request(wanted(**{field: 7}), PAINTER, ACCESS)
    assert isinstance(failure, Failure) and (failure.blame, failure.status) == (Blame.REQUEST, 400)


def test_a_model_that_makes_no_pictures_is_not_asked_for_any() -> None:
    failure = PROVIDER.request(wanted(), SONNET, ACCESS)
    assert isinstance(failure, Failure) and "makes no pictures" in failure.message


async def test_pictures_come_as_a_message() -> None:
    answer = await answered(made({"text": "Here it is."}, PICTURE))
    assert isinstance(answer, Answer) and answer.usage.output == 1290
    message = json.loads(answer.held)
    assert message["model"] == "picture-please" and message["id"].startswith("msg_")
    assert message["content"] == [
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "aGk="}}
    ]


@pytest.mark.parametrize(
    ("document", "blame", "status"),
    [
        (made({"text": "I will not."}), Blame.PROVIDER, 502),
        (made(finishReason="IMAGE_SAFETY"), Blame.REQUEST, 400),
        (made(finishReason="OTHER"), Blame.PROVIDER, 502),
        (REFUSALS["a quota without an end"]["body"], Blame.ACCOUNT, 429),
        (REFUSALS["no capacity, as 503"]["body"], Blame.PROVIDER, 529),
    ],
)
async def test_no_picture_is_a_failure(document: Any, blame: Blame, status: int) -> None:
    failure = await answered(document)
    assert isinstance(failure, Failure) and (failure.blame, failure.status) == (blame, status)
