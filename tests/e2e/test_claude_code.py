"""The real Claude Code CLI through the proxy, in front of the sandbox: `pytest -m claude_code`.

It is taken from CLAUDE_CODE_BIN, else installed by npm (pinned) into pytest's cache folder. No login, no network.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from accounts.model import CallersOwn
from mcp_proxy.sandbox import Account, Answer, Sandbox, Text, Thinking, ToolUse, refusals, say
from mcp_proxy.sandbox.voice import voice_of
from tests.e2e.harness import KEY, Proxy, running, serving_accounts

pytestmark = pytest.mark.claude_code

PACKAGE, VERSION = "@anthropic-ai/claude-code", "2.1.329"


@pytest.fixture(scope="module")
def claude(request: pytest.FixtureRequest) -> Path:
    """The binary of the pinned version."""
    if given := os.environ.get("CLAUDE_CODE_BIN"):
        return Path(given)
    folder = request.config.cache.mkdir(f"claude-code-{VERSION}")
    if not (found := sorted(folder.glob("node_modules/@anthropic-ai/claude-code-*/claude"))):
        subprocess.run(
            ["npm", "install", "--prefix", str(folder), "--no-audit", "--no-fund", "--no-save", f"{PACKAGE}@{VERSION}"],
            check=True,
            timeout=300,
        )
        found = sorted(folder.glob("node_modules/@anthropic-ai/claude-code-*/claude"))
    return found[0]


WITH_KEY = {"ANTHROPIC_AUTH_TOKEN": KEY}


async def run(
    claude: Path, proxy: Proxy, home: Path, prompt: str, *more: str, who: dict[str, str] = WITH_KEY
) -> dict[str, Any]:
    """One unattended run, with more arguments; what it printed as JSON. who: the variables that say who asks."""
    project = home / "project"
    project.mkdir(parents=True, exist_ok=True)
    process = await asyncio.create_subprocess_exec(
        str(claude),
        *("-p", prompt, "--output-format", "json", "--allowedTools", "Bash,Read,Write", *more),
        cwd=project,
        env={
            "PATH": os.environ["PATH"],
            "HOME": str(home),
            "ANTHROPIC_BASE_URL": proxy.url,
            **who,
            "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        },
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(120):
            out, err = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
    assert out, err[-2000:]
    return dict(json.loads(out))


def last_kinds(body: dict[str, Any]) -> set[str]:
    """The kinds of block in the last message of the user."""
    last = [each for each in body["messages"] if each["role"] == "user"][-1]["content"]
    return {"text"} if isinstance(last, str) else {block["type"] for block in last}


def writes_a_file(account: Account, path: Path) -> None:
    """This account answers a prompt by writing a file, and what follows the tool's result by a text."""

    def voice(body: dict[str, Any]) -> Answer:
        tools = {tool.get("name") for tool in body.get("tools", ())}
        if "Write" not in tools:
            return voice_of(account.alias)(body)
        if "tool_result" in last_kinds(body):
            return say(f"{account.alias} says: the file is there.")
        account.drain("input-tokens")  # this was the last it could do
        return say(
            Thinking("A file is wanted."),
            Text("I write it."),
            ToolUse("Write", {"file_path": str(path), "content": "made through the proxy\n"}),
        )

    account.speak(voice)


async def test_a_tool_round_trip_goes_on_elsewhere_when_the_account_is_exhausted_between_its_turns(
    claude: Path, tmp_path: Path
) -> None:
    path = tmp_path / "client" / "project" / "hello.txt"
    async with Sandbox(["anthropic"]) as box:
        a, b = box.account("anthropic", alias="a"), box.account("anthropic", alias="b")
        for account in (a, b):
            writes_a_file(account, path)
        async with running(tmp_path / "proxy", box, ("anthropic", a), ("anthropic", b)) as proxy:
            printed = await run(claude, proxy, tmp_path / "client", "Write hello.txt, please.")
            assert path.read_text() == "made through the proxy\n"
            assert printed["is_error"] is False and "the file is there" in printed["result"]
            served = [
                account.alias
                for account in (a, b)
                for each in account.received
                if each.path == "/v1/messages" and each.answered == 200 and b'"tool_result"' in each.body
            ]
            first = next(each for each in box.received if each.path == "/v1/messages" and each.answered == 200)
            assert first.account is not None and first.account.alias not in served, "the second turn moved"
            assert any(each.answered == 429 for each in box.received), "the exhausted account was met"
            assert box.complaints == []


async def test_the_context_command_counts_through_the_proxy(claude: Path, tmp_path: Path) -> None:
    async with Sandbox(["anthropic"]) as box:
        a = box.account("anthropic", alias="a")
        async with running(tmp_path / "proxy", box, ("anthropic", a)) as proxy:
            printed = await run(claude, proxy, tmp_path / "client", "/context")
            assert printed["is_error"] is False
            counted = [each for each in a.received if each.path == "/v1/messages/count_tokens"]
            assert len(counted) > 10 and all(each.answered == 200 for each in counted)


async def test_another_native_provider_serves_claude_codes_own_model_names(claude: Path, tmp_path: Path) -> None:
    path = tmp_path / "client" / "project" / "hello.txt"
    async with Sandbox(["zai"]) as box:
        a, b = box.account("zai", alias="a"), box.account("zai", alias="b")

        def voice(body: dict[str, Any]) -> Answer:
            if "Write" not in {tool.get("name") for tool in body.get("tools", ())}:
                return voice_of("glm")(body)
            if "tool_result" in last_kinds(body):
                return say("the file is there")
            return say(ToolUse("Write", {"file_path": str(path), "content": "by glm\n"}))

        a.speak(voice)
        b.speak(voice)
        async with running(tmp_path / "proxy", box, ("zai", a), ("zai", b)) as proxy:
            printed = await run(claude, proxy, tmp_path / "client", "Write hello.txt, please.")
            assert path.read_text() == "by glm\n" and "the file is there" in printed["result"]
            assert box.complaints == []


async def test_a_pool_that_is_exhausted_for_long_shows_its_message_at_once(claude: Path, tmp_path: Path) -> None:
    async with Sandbox(["anthropic"]) as box:
        a = box.account("anthropic", alias="a")
        async with running(tmp_path / "proxy", box, ("anthropic", a)) as proxy:
            a.always(refusals.rate_limited(3600))
            printed = await run(claude, proxy, tmp_path / "client", "hello")
            assert printed["is_error"] is True and "RESOURCE_EXHAUSTED" in printed["result"]


async def test_a_session_moves_between_claude_and_gemini_models_with_tools_and_thoughts(
    claude: Path, tmp_path: Path
) -> None:
    """Claude Code's own names first, then a Gemini model, then GPT, then Claude again: one session, four runs."""
    folder = tmp_path / "client" / "project"
    async with Sandbox(["antigravity"]) as box:
        a = box.account("antigravity", alias="a")

        def voice(body: dict[str, Any]) -> Answer:
            if "Write" not in {tool["name"] for tool in body["tools"]}:
                return say("a title")
            if "tool_result" in last_kinds(body):
                return say(Thinking("It is there."), Text(f"{body['model']} wrote it."))
            content = {"file_path": str(folder / f"{body['model']}.txt"), "content": "made through the proxy\n"}
            return say(Thinking("A file is wanted."), Text("I write it."), ToolUse("Write", content))

        a.speak(voice)
        async with running(tmp_path / "proxy", box, ("antigravity", a)) as proxy:
            session: tuple[str, ...] = ()
            for model in ("sonnet", "gemini-3-flash", "gpt-oss-120b-medium", "sonnet"):
                printed = await run(
                    claude, proxy, tmp_path / "client", "Write a file, please.", "--model", model, *session
                )
                assert printed["is_error"] is False and "wrote it" in printed["result"], printed
                session = ("--resume", printed["session_id"])
        asked = [each for each in a.received if "streamGenerateContent" in each.path]
        assert len(asked) >= 8 and [each.wrong for each in asked if each.answered != 200] == []
        written = {path.name for path in folder.glob("*.txt")}
        assert {"gemini-3-flash.txt", "gpt-oss-120b-medium.txt"} < written and len(written) == 3
        assert box.complaints == []


async def test_its_own_login_passes_through_beside_the_proxys_key(claude: Path, tmp_path: Path) -> None:
    login, path = "sk-ant-oat01-sk-fake-login-of-claude-code", tmp_path / "client" / "project" / "hello.txt"
    who = {"CLAUDE_CODE_OAUTH_TOKEN": login, "ANTHROPIC_CUSTOM_HEADERS": f"x-proxy-api-key: {KEY}"}
    async with Sandbox(["claude-subscription", "zai"]) as box:
        plan, zai = box.account("claude-subscription", key=login), box.account("zai")

        def voice(body: dict[str, Any]) -> Answer:
            if "Write" not in {tool.get("name") for tool in body.get("tools", ())}:
                return voice_of("plan")(body)
            if "tool_result" in last_kinds(body):
                return say("the file is there")
            return say(ToolUse("Write", {"file_path": str(path), "content": "by the plan\n"}))

        plan.speak(voice)
        accounts = [
            ("claude-subscription", CallersOwn(), {"label": "plan", "base_url": box.url("claude-subscription")}),
            ("zai", zai.key, {"label": "zai", "base_url": box.url("zai"), "tier": 2}),
        ]
        async with serving_accounts(tmp_path / "proxy", accounts, "[routing]\nfallback = true\n") as proxy:
            printed = await run(claude, proxy, tmp_path / "client", "Write hello.txt, please.", who=who)
            assert path.read_text() == "by the plan\n" and "the file is there" in printed["result"]
            assert {each.header("authorization") for each in plan.received} == {f"Bearer {login}"}
            plan.always(refusals.plan_limit())
            printed = await run(claude, proxy, tmp_path / "client", "hello", who=who)
            assert printed["is_error"] is False and zai.received
            assert {each.host for each in box.received if login in str(each.headers)} == {"claude-subscription"}
            assert not any(KEY in str(each.headers) for each in box.received)
            plan.well()
            plan.revoked = True
        async with serving_accounts(tmp_path / "alone", accounts) as proxy:
            before = len(box.received)
            printed = await run(claude, proxy, tmp_path / "client", "hello", who=who)
            assert printed["is_error"] is True and "401" in printed["result"]
            assert not [each for each in box.received[before:] if each.host == "zai" and "messages" in each.path]
            assert box.complaints == []


async def test_a_tool_round_trip_goes_on_in_another_family_when_the_model_has_run_out_between_its_turns(
    claude: Path, tmp_path: Path
) -> None:
    path = tmp_path / "client" / "project" / "hello.txt"
    async with Sandbox(["antigravity"]) as box:
        a = box.account("antigravity", alias="a")

        def voice(body: dict[str, Any]) -> Answer:
            if "Write" not in {tool["name"] for tool in body["tools"]}:
                return say("a title")
            if "tool_result" in last_kinds(body):
                return say(Thinking("It is there."), Text(f"{body['model']} says: the file is there."))
            a.drain("3p-5h")  # this was the last that Claude's models could do
            content = {"file_path": str(path), "content": "made through the proxy\n"}
            return say(Thinking("A file is wanted."), Text("I write it."), ToolUse("Write", content))

        a.speak(voice)
        async with running(tmp_path / "proxy", box, ("antigravity", a), toml="[routing]\nfallback = true\n") as proxy:
            printed = await run(claude, proxy, tmp_path / "client", "Write hello.txt, please.", "--model", "opus")
            assert path.read_text() == "made through the proxy\n"
            assert "gemini" in printed["result"] and "the file is there" in printed["result"], printed["result"]
            told = (await proxy.client.get("/why/last")).json()
            assert told["reason"] == "fallback_model" and told["asked"].startswith("claude-opus")
        assert [each.wrong for each in a.received if "streamGenerate" in each.path and each.answered == 400] == []
        assert a.pestered == 0 and box.complaints == []
