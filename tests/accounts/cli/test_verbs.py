"""list, show, enable, disable, rename, remove, refresh, verify."""

from __future__ import annotations

import json

import pytest

from accounts.cli import AccountState
from accounts.exits import Exit
from accounts.model import AccountId
from accounts.vault.errors import VaultError
from tests.accounts.cli.conftest import Shell
from tests.accounts.cli.program import CONFIGURED

KEY = "sk-fake-key-0001-not-real"
VERBS = [
    "add",
    "list",
    "show",
    "verify",
    "refresh",
    "remove",
    "enable",
    "disable",
    "rename",
    "import",
    "export",
    "rekey",
]


@pytest.fixture
def full(shell: Shell) -> Shell:
    """zai/work, zai/home and kimi/work, and zai/from-config beside them."""
    shell.add(KEY + "1", "--label", "work")
    shell.add(KEY + "2", "--label", "home", "--tier", "2")
    shell.add(KEY + "3", "--label", "work", "--provider", "kimi")
    shell.fields["extra_entries"] = lambda: (CONFIGURED,)
    return shell


def document(out: str) -> list[dict[str, object]]:
    whole = json.loads(out)
    assert whole["schema_version"] == 1
    found: list[dict[str, object]] = whole["accounts"]
    return found


def ids(shell: Shell) -> dict[str, AccountId]:
    return {entry.account.name: entry.account.id for entry in shell.vault.entries()}


def test_no_accounts_is_fine_and_says_how_to_begin(shell: Shell) -> None:
    done = shell("list")
    assert (done.code, done.out) == (0, "")
    assert "proxy accounts add" in done.err
    assert document(shell("list", "--json").out) == []


def test_the_list_has_every_account_with_what_is_known_of_it(full: Shell) -> None:
    work = ids(full)["zai/work"]
    state = AccountState("rate_limited", ("5h: 0 %", "7d: 40 %"), "2027-01-15T07:55:00Z")
    done = full("list", limits=lambda: {work: state})
    head, *lines = done.out.splitlines()
    assert done.code == 0
    assert head.split() == ["ID", "Provider", "Label", "Status", "Limits", "Last", "used"]
    assert len(lines) == 4
    assert lines[0].split("  ")[0] == work
    assert "rate_limited" in lines[0]
    assert "5h: 0 %; 7d: 40 %" in lines[0]
    assert lines[0].endswith("5 min ago")
    assert "from-config (config file)" in done.out


def test_the_documents_fields_are_the_ones_promised(full: Shell) -> None:
    full("disable", "zai/home")
    found = {f"{one['provider']}/{one['label']}": one for one in document(full("list", "--json").out)}
    assert set(found) == {"zai/work", "zai/home", "kimi/work", "zai/from-config"}
    wanted = {"id", "provider", "label", "status", "enabled", "tier", "base_url", "last_used", "error"}
    assert all(wanted <= set(one) for one in found.values())
    assert (found["zai/home"]["status"], found["zai/home"]["enabled"], found["zai/home"]["tier"]) == (
        "disabled",
        False,
        2,
    )
    assert found["zai/work"]["status"] == "unknown"
    assert found["zai/from-config"]["source"] == "config"


def test_a_filter_that_matches_nothing_is_its_own_exit_code(full: Shell) -> None:
    assert full("list", "--provider", "kimi").code == 0
    assert len(document(full("list", "--provider", "kimi", "--json").out)) == 1
    assert full("list", "--provider", "nobody").code == 3
    done = full("list", "--provider", "nobody", "--json")
    assert (done.code, document(done.out)) == (3, [])


def test_one_account_is_shown_with_its_key_masked(full: Shell) -> None:
    done = full("show", "kimi/work")
    assert done.code == 0
    assert "…eal3" in done.out
    assert KEY not in done.out
    shown = json.loads(full("show", "kimi/work", "--json").out)
    assert shown["schema_version"] == 1
    assert shown["account"]["credential"] == {"kind": "api_key", "key": "…eal3"}
    assert full("show", "from-config").code == 0


def test_an_account_is_found_by_id_label_or_both(full: Shell) -> None:
    for name in (ids(full)["zai/home"], "home", "zai/home"):
        assert full("show", name).code == 0


def test_a_name_for_two_is_an_error_that_lists_both(full: Shell) -> None:
    done = full("show", "work")
    assert done.code == 2
    assert "zai/work" in done.err
    assert "kimi/work" in done.err


def test_a_name_for_nobody_suggests_near_ones(full: Shell) -> None:
    done = full("show", "zai/hom")
    assert done.code == 3
    assert "zai/home" in done.err


def test_switching_twice_is_switching_once(full: Shell) -> None:
    assert [full("disable", "home").code for _ in range(2)] == [0, 0]
    assert not next(entry for entry in full.vault.entries() if entry.account.label == "home").account.enabled
    generation = full.vault.generation()
    assert full("disable", "home").code == 0
    assert full.vault.generation() == generation
    assert full("enable", "home").code == 0
    assert all(entry.account.enabled for entry in full.vault.entries())


def test_a_new_label_keeps_the_id_and_may_not_be_in_use(full: Shell) -> None:
    before = ids(full)["zai/home"]
    assert full("rename", "home", "den").code == 0
    assert ids(full)["zai/den"] == before
    for taken in ("work", "from-config", "a/b", ""):
        assert full("rename", "den", taken).code == 2
    assert full("rename", "kimi/work", "den").code == 0


def test_removing_needs_a_yes_where_nobody_can_be_asked(full: Shell) -> None:
    done = full("remove", "home")
    assert done.code == 2
    assert "--yes" in done.err
    assert "zai/home" in ids(full)
    assert full("remove", "home", "--yes").code == 0
    assert "zai/home" not in ids(full)


@pytest.mark.parametrize("words", [("remove", "--yes"), ("enable",), ("disable",), ("rename",)])
def test_an_account_of_the_config_file_is_not_changed_here(full: Shell, words: tuple[str, ...]) -> None:
    new = ("other",) if words == ("rename",) else ()
    done = full(words[0], "from-config", *new, *words[1:])
    assert done.code == 2
    assert "config file" in done.err


def test_an_account_of_the_config_file_is_verified_like_the_others(full: Shell) -> None:
    done = full("verify", "from-config", "home")
    assert done.code == 0
    assert "zai/from-config" in done.out and "zai/home" in done.out
    assert "zai/from-config" in full("verify").out


def test_a_key_has_nothing_to_renew_and_that_is_said_of_each(full: Shell) -> None:
    done = full("refresh")
    assert done.code == 0
    assert len(done.err.splitlines()) == 3
    assert full("refresh", "nobody").code == 3
    assert full("refresh", "home").code == 0


def test_verifying_says_of_each_whether_it_works(full: Shell) -> None:
    done = full("verify")
    assert done.code == 0
    assert done.out.count("  ok") == 4
    assert "[4/4]" in done.err


def test_a_refusal_marks_the_account_until_it_works_again(full: Shell) -> None:
    full.add("sk-fake-refused-key", "--label", "bad", "--no-verify")
    done = full("verify", "--json")
    assert done.code == 4
    verdicts = {f"{one['provider']}/{one['label']}": one["credential"] for one in document(done.out)}
    assert verdicts["zai/bad"] == "refused"
    assert verdicts["zai/work"] == "ok"
    (listed,) = [one for one in document(full("list", "--json").out) if one["label"] == "bad"]
    assert listed["status"] == "invalid"
    assert "401" in str(listed["error"])
    full.vault.change(ids(full)["zai/work"], lambda known: known.__class__(known.id, "zai", "work", invalid="once"))
    assert full("verify", "zai/work").code == 0
    assert all(entry.account.invalid is None for entry in full.vault.entries() if entry.account.label == "work")


def test_out_of_reach_changes_no_mark_and_a_refusal_outweighs_it(full: Shell) -> None:
    full.add("sk-fake-unreachable", "--label", "far", "--no-verify")
    generation = full.vault.generation()
    assert full("verify", "far").code == 6
    assert full("verify", "work-nobody").code == 3
    assert full.vault.generation() == generation
    full.add("sk-fake-refused", "--label", "bad", "--no-verify")
    assert full("verify", "far", "bad", "zai/work").code == 4


def test_ctrl_c_while_verifying_keeps_what_is_known(full: Shell) -> None:
    full.add("sk-fake-refused", "--label", "bad", "--no-verify")
    full.add("sk-fake-interrupt", "--label", "slow", "--no-verify")
    assert full("verify", "bad", "slow").code == 130
    assert next(entry for entry in full.vault.entries() if entry.account.label == "bad").account.invalid is not None


def test_verifying_nothing_is_not_success(shell: Shell) -> None:
    assert shell("verify").code == 3


def test_trouble_with_the_store_is_a_line_and_its_exit_code(full: Shell) -> None:
    full.vault.path.write_bytes(b"rubbish")
    for words in (("list",), ("list", "--json"), ("show", "home"), ("verify",), ("remove", "home", "--yes")):
        done = full(*words)
        assert (done.code, done.out) == (7, "")
        assert "damaged" in done.err
        assert len(done.err.splitlines()) == 2


def test_a_lost_key_is_its_own_exit_code(full: Shell) -> None:
    (full.home / "config" / "vault.key").unlink()
    assert full("list").code == 8
    assert full.add(KEY, "--label", "new").code == 8


def test_every_error_of_the_store_ends_with_a_known_exit_code() -> None:
    def all_kinds(kind: type[VaultError]) -> list[type[VaultError]]:
        return [kind, *(below for one in kind.__subclasses__() for below in all_kinds(one))]

    assert {kind.exit_code for kind in all_kinds(VaultError)} <= {int(code) for code in Exit}


def test_help_has_an_example_for_every_verb(shell: Shell) -> None:
    whole = shell("--help").out
    for verb in VERBS:
        assert verb in whole
        done = shell(verb, "--help")
        assert done.code == 0
        assert f"proxy accounts {verb}" in done.out
        assert "Exit status" in done.out
