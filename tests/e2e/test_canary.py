"""Planted secrets, and a search for them in everything that the program ever wrote."""

from __future__ import annotations

import asyncio
import base64
import json
import signal
import subprocess
from pathlib import Path

from mcp_proxy.sandbox import Place, Sandbox, faults, refusals
from tests.e2e.harness import KEY, message
from tests.e2e.test_process import proxy, served

UPSTREAM = "sk-fake-ant-canary-upstream-0000-1111-2222"
OTHER = "sk-fake-ant-canary-config-3333-4444-5555"
PASSPHRASE = "sk-fake canary passphrase of the store"
EXPORT = "sk-fake canary passphrase of the export"
STORE_KEY = base64.b64encode(b"sk-fake key of the account store").decode()
CALLERS = "sk-fake-ant-oat-canary-of-the-caller"
LOGIN = "sk-ant-oat01-sk-fake-canary-of-a-login-of-the-callers-own"
CANARIES = (UPSTREAM, OTHER, PASSPHRASE, EXPORT, STORE_KEY, CALLERS, LOGIN, KEY)


async def test_no_secret_is_in_anything_that_was_written(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    async with Sandbox(["anthropic", "zai", "claude-subscription"]) as box:
        account = box.account("anthropic", alias="a", key=UPSTREAM)
        config = f'[providers.zai]\nbase_url = "{box.url("zai")}"\napi_key = "${{CANARY_KEY}}"\n'
        (home / "config.toml").write_text(config)
        written = await asyncio.to_thread(provoke, home, box, account)
        seen = {name.lower() for each in box.received for name, _ in each.headers}
        assert "x-proxy-api-key" not in seen and "cookie" not in seen
        assert all(CALLERS not in str(each.headers) for each in box.received)
        assert {each.host for each in box.received if LOGIN in str(each.headers)} == {"claude-subscription"}
    files = {
        path.name: path.read_bytes().decode("latin-1")
        for path in tmp_path.rglob("*")
        if path.is_file() and path.name != "config.toml"
    }
    for name, text in {**written, **files}.items():
        for canary in CANARIES:
            assert canary not in text, f"{canary!r} in {name}"
    assert len("".join(written.values())) > 5000, "there was something to search"


def provoke(home: Path, box: Sandbox, account: object) -> dict[str, str]:
    """Use the program in every way that could make it talk, at its most talkative; all that it wrote, by name."""
    from mcp_proxy.sandbox import Account

    assert isinstance(account, Account)
    environ = {
        "MCP_PROXY_VAULT_KEY": STORE_KEY,
        "MCP_PROXY_EXPORT_PASSPHRASE": EXPORT,
        "CANARY_KEY": OTHER,
        "LOG_LEVEL": "debug",
        "DEBUG": "1",
    }
    written: dict[str, str] = {}

    def command(*words: str, stdin: str = "") -> None:
        run = proxy(home, *words, stdin=stdin, **environ)
        written[" ".join(words)] = run.stdout + run.stderr

    plan = box.account("claude-subscription", key=LOGIN)
    own = ("accounts", "add", "--provider", "claude-subscription", "--base-url", box.url("claude-subscription"))
    command(*own, "--api-key-stdin", stdin=LOGIN + "\n")
    command(*own, LOGIN)
    command(*own)
    url = box.url("anthropic")
    add = ("accounts", "add", "--provider", "anthropic", "--label", "a", "--base-url", url)
    command(*add, "--api-key-stdin", stdin=UPSTREAM + "\n")
    account.script(refusals.unauthorized(f"invalid x-api-key {UPSTREAM}"), on=Place.MODELS)
    command("accounts", "verify", "a")
    command(*add, "--api-key-stdin", UPSTREAM)
    command(*add, "--api-key", UPSTREAM)
    command("accounts", "add", "--provider", "anthropic", "--api-key-stdin", stdin=f"{UPSTREAM} two words\n")
    command("accounts", "add", "--provider", "custom", "--base-url", f"http://user:{UPSTREAM}@127.0.0.1:1/")
    for words in (("list", "--json"), ("show", "a", "--json"), ("show", "a"), ("verify", "--json"), ("refresh",)):
        command("accounts", *words)
    command("accounts", "export", str(home / "export.sealed"))
    command("accounts", "import", str(home / "export.sealed"), "--yes")
    command("doctor", "--json")
    command("doctor")
    with served(home, **environ) as running:
        written["ps"] = subprocess.run(
            ["ps", "-ww", "-o", "args=", "-p", str(running.process.pid)], capture_output=True, text=True
        ).stdout
        account.script(
            refusals.bad_request(f"header x-api-key: {UPSTREAM}\nand more"),
            refusals.rate_limited(1, message=f"limited: {UPSTREAM}"),
            faults.error_event("content_block_delta", message=f"oh no {UPSTREAM}"),
            faults.garbage(f"HTTP/1.1 200 OK\r\nx: {UPSTREAM}\r\nbroken {UPSTREAM}\r\n\r\n".encode()),
        )
        callers = {"authorization": f"Bearer {CALLERS}", "cookie": f"session={CALLERS}", "x-proxy-api-key": KEY}
        plan.script(
            refusals.unauthorized(f"Invalid bearer token {LOGIN}"),
            refusals.bad_request(f"not with {LOGIN}"),
            faults.error_event("content_block_delta", message=f"oh no {LOGIN}"),
        )
        logged_in = {"authorization": f"Bearer {LOGIN}", "x-proxy-api-key": KEY, "anthropic-beta": "oauth-2025-04-20"}
        own_model = {"model": "claude-subscription/claude-sonnet-5"}
        requests = [
            *(("POST", "/v1/messages", message(**own_model, stream=n > 1), logged_in) for n in range(4)),
            ("POST", "/v1/messages", message(model="glm-4.7"), logged_in),
            ("POST", f"/v1/messages/{LOGIN}", message(), logged_in),
            ("POST", "/v1/messages", message(), {}),
            ("POST", "/v1/messages", message(), callers),
            ("POST", "/v1/messages", message(stream=True), {}),
            ("POST", "/v1/messages", message(), {}),
            ("POST", "/v1/messages", message(model="glm-4.7"), {}),
            ("POST", "/v1/messages/count_tokens", message(), {}),
            ("POST", "/v1/messages", {"model": CALLERS}, {"x-api-key": CALLERS}),
            ("GET", f"/{CALLERS}?key={CALLERS}", None, {"x-api-key": CALLERS}),
            ("GET", "/account-limits", None, {}),
            ("GET", "/account-limits?format=table", None, {}),
            ("GET", "/health", None, {}),
            ("GET", "/v1/models", None, {}),
        ]
        for number, (method, path, body, headers) in enumerate(requests):
            answer = running.client.request(method, path, json=body, headers=headers)
            written[f"answer {number}"] = f"{answer.status_code} {answer.headers} {answer.text}"
        account.revoked = True
        answer = running.client.post("/v1/messages", json=message())
        written["refused"] = answer.text
        for words in (("limits",), ("models", "--json"), ("status", "--json")):
            run = proxy(home, *words, "--url", running.url, **environ)
            written[" ".join(words)] = run.stdout + run.stderr
        running.client.get("/livez")
        code, err = running.end(signal.SIGTERM)
        assert code == 0
        written["log"] = err
    command("accounts", "rekey", "--to", "passphrase", "--passphrase-stdin", stdin=PASSPHRASE + "\n")
    assert "request" in written["log"] and json.loads(written["doctor --json"])
    return written
