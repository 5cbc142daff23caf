from __future__ import annotations

import base64
import json
from pathlib import Path

import msgspec
import pytest

from mcp_proxy.core.failure import Failure
from mcp_proxy.core.messages import Ask, Endpoint
from mcp_proxy.sandbox import Sandbox
from mcp_proxy.server.images import Wanted, asked, media_type, pictures, read_wanted
from tests.e2e.harness import running

PNG = base64.b64encode(b"\x89PNG\r\n\x1a\n and more").decode()


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{}",
        b'{"prompt": ""}',
        b'{"prompt": 7}',
        b'{"prompt": "a cat", "count": 0}',
        b'{"prompt": "a cat", "count": 5}',
        b'{"prompt": "a cat", "count": "two"}',
        b'{"prompt": "a cat", "size": "large"}',
    ],
)
def test_what_is_no_wish_for_a_picture_is_400(body: bytes) -> None:
    wanted = read_wanted(body)
    assert isinstance(wanted, Failure) and (wanted.status, wanted.type) == (400, "invalid_request_error")


def test_a_wish_becomes_a_request_for_one_picture() -> None:
    wanted = read_wanted(
        msgspec.json.encode({"prompt": "a cat", "count": 2, "aspect_ratio": "16:9", "input_image": PNG})
    )
    assert isinstance(wanted, Wanted) and wanted.count == 2
    ask = asked(wanted, "pictures-1")
    assert isinstance(ask, Ask) and (ask.endpoint, ask.model, ask.stream) == (Endpoint.IMAGES, "pictures-1", False)
    assert json.loads(ask.body) == {
        "model": "pictures-1",
        "prompt": "a cat",
        "aspect_ratio": "16:9",
        "input_image": {"media_type": "image/png", "data": PNG},
    }


def test_a_model_that_is_named_counts_more_than_the_usual_one() -> None:
    ask = asked(Wanted("a cat", model="pictures-2"), "pictures-1")
    assert isinstance(ask, Ask) and ask.model == "pictures-2"


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"\x89PNG....", "image/png"),
        (b"\xff\xd8\xff\xe0", "image/jpeg"),
        (b"GIF89a", "image/gif"),
        (b"RIFF....WEBP", "image/webp"),
        (b"<svg/>", None),
        (b"", None),
    ],
)
def test_a_picture_is_known_by_how_it_begins(content: bytes, kind: str | None) -> None:
    assert media_type(base64.b64encode(content).decode()) == kind


def test_what_is_no_base64_is_no_picture() -> None:
    assert media_type("§§") is None
    failure = asked(Wanted("a cat", input_image="§§"), "pictures-1")
    assert isinstance(failure, Failure) and failure.message.startswith("input_image: ")


def test_pictures_are_numbered_across_messages() -> None:
    def message(*data: str) -> bytes:
        blocks = [{"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": x}} for x in data]
        return json.dumps({"content": [{"type": "text", "text": "here"}, *blocks]}).encode()

    assert pictures("pictures-1", "req_12", [message("YQ=="), message("Yg==", "Yw==")]) == {
        "id": "img_12",
        "type": "image_generation",
        "model": "pictures-1",
        "images": [{"index": i, "media_type": "image/png", "data": d} for i, d in enumerate(("YQ==", "Yg==", "Yw=="))],
    }


async def test_where_nobody_makes_pictures_it_is_said(tmp_path: Path) -> None:
    async with Sandbox(["anthropic"]) as box:
        a = box.account("anthropic", alias="a")
        async with running(tmp_path, box, ("anthropic", a)) as proxy:
            for model in ({}, {"model": "claude-sonnet-5"}):
                reply = await proxy.client.post("/v1/images/generate", json={"prompt": "a cat", **model})
                assert (reply.status_code, reply.json()["error"]["type"]) == (404, "not_found_error"), reply.text
        assert [each for each in a.received if "images" in each.path] == []
