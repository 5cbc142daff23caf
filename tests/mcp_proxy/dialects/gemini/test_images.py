from __future__ import annotations

import json

from mcp_proxy.core.failure import Blame, Failure
from mcp_proxy.core.ids import ModelId
from mcp_proxy.dialects.gemini.decode import Image
from mcp_proxy.dialects.gemini.images import image_request, read_images
from mcp_proxy.dialects.gemini.profile import profile_of

PROFILE = profile_of(ModelId("gemini-3.1-flash-image"))
PICTURE = {"inlineData": {"mimeType": "image/png", "data": "aWNvbg=="}}


def test_a_picture_is_asked_for() -> None:
    assert json.loads(image_request("A cat", PROFILE).request) == {
        "contents": [{"role": "user", "parts": [{"text": "A cat"}]}],
        "generationConfig": {"responseModalities": ["IMAGE"]},
    }
    sent = json.loads(image_request("Redder", PROFILE, "16:9", Image("image/png", "aWNvbg==")).request)
    assert sent["contents"][0]["parts"] == [{"text": "Redder"}, PICTURE]
    assert sent["generationConfig"]["imageConfig"] == {"aspectRatio": "16:9"}


def test_pictures_are_found_in_an_answer_however_it_came() -> None:
    candidate = {"content": {"parts": [{"text": "Here"}, PICTURE, PICTURE]}, "finishReason": "STOP"}
    whole = json.dumps({"response": {"candidates": [candidate]}}).encode()
    for data in (whole, b"data: %b\n\n" % whole):
        assert read_images(data, image_request("A cat", PROFILE)) == (Image("image/png", "aWNvbg=="),) * 2


def test_an_answer_without_a_picture_says_why() -> None:
    encoded = image_request("A cat", PROFILE)
    words = {"candidates": [{"content": {"parts": [{"text": "No."}]}, "finishReason": "STOP"}]}
    none = read_images(json.dumps(words).encode(), encoded)
    assert isinstance(none, Failure) and none.message == "the model made no picture"
    error = read_images(b'{"error":{"code":400,"message":"Bad aspect"}}', encoded)
    assert isinstance(error, Failure) and (error.blame, error.message) == (Blame.REQUEST, "Bad aspect")
