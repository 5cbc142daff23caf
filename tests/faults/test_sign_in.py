"""A5, as far as accounts with an API key go: two sign-ins at once, the same account twice.

One after the other is in `tests/accounts/cli/test_add.py`; here they are processes that run at the same moment.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from mcp_proxy.cli.adapters import open_vault
from mcp_proxy.settings import load
from tests.e2e.test_process import PROXY, environment, proxy
from tests.faults.secrets import MARK


def sign_in_at_once(home: Path, *keys: str, label: str | None = None) -> list[tuple[int, str]]:
    """As many sign-ins as there are keys, begun together: their exit codes and what they said."""
    words = [*PROXY, "accounts", "add", "--provider", "anthropic", "--base-url", "http://127.0.0.1:9", "--no-verify"]
    words += ["--api-key-stdin", *(["--label", label] if label else [])]
    pipe = subprocess.PIPE
    begun = [
        subprocess.Popen(words, env=environment(home), stdin=pipe, stdout=pipe, stderr=pipe, text=True) for _ in keys
    ]
    return [
        (process.returncode, out + err)
        for process, key in zip(begun, keys, strict=True)
        for out, err in [process.communicate(key + "\n", timeout=50)]
    ]


def stored(home: Path) -> list[tuple[str, str]]:
    """Label and key of every account in the store."""
    entries = open_vault(load({}, {"MCP_PROXY_HOME": str(home)})).entries()
    return [(each.account.label, each.credential.key.reveal()) for each in entries]


def test_of_two_sign_ins_at_once_to_one_label_the_last_holds_and_there_is_one_account(tmp_path: Path) -> None:
    """A5."""
    keys = [f"{MARK}-one", f"{MARK}-two", f"{MARK}-three"]
    ended = sign_in_at_once(tmp_path, *keys, label="work")
    assert [code for code, _ in ended] == [0, 0, 0], ended
    assert sum("Replaced" in said for _, said in ended) == 2
    (held,) = stored(tmp_path)
    assert held[0] == "work" and held[1] in keys
    listed = json.loads(proxy(tmp_path, "accounts", "list", "--json").stdout)["accounts"]
    assert [(each["label"], each["error"]) for each in listed] == [("work", None)]


def test_of_one_key_signed_in_twice_at_once_there_is_one_account(tmp_path: Path) -> None:
    """A5."""
    ended = sign_in_at_once(tmp_path, f"{MARK}-same", f"{MARK}-same")
    assert [code for code, _ in ended] == [0, 0], ended
    assert stored(tmp_path) == [("default", f"{MARK}-same")]


def test_sign_ins_of_different_keys_at_once_each_have_an_account_of_their_own(tmp_path: Path) -> None:
    """A5: the twin."""
    keys = [f"{MARK}-one", f"{MARK}-two", f"{MARK}-three"]
    assert [code for code, _ in sign_in_at_once(tmp_path, *keys)] == [0, 0, 0]
    found = stored(tmp_path)
    assert sorted(key for _, key in found) == sorted(keys)
    assert sorted(label for label, _ in found) == ["default", "default-2", "default-3"]
