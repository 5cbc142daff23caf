"""Settings as short as a table needs them: the text of a config file and variables."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from mcp_proxy.settings import Folders, Settings, SettingsError, load

Load = Callable[..., Settings]
Problems = Callable[..., tuple[str, ...]]


@pytest.fixture
def read(tmp_path: Path) -> Load:
    """Load with the text of the config file and variables by name."""

    def read(config: str = "", *, flags: Mapping[str, object] | None = None, **environ: str) -> Settings:
        (tmp_path / "config.toml").write_text(config, encoding="utf-8")
        return load(flags or {}, environ, Folders.all_in(tmp_path))

    return read


@pytest.fixture
def problems(read: Load) -> Problems:
    """The same, of what cannot be used: everything that is wrong."""

    def problems(config: str = "", **environ: str) -> tuple[str, ...]:
        with pytest.raises(SettingsError) as caught:
            read(config, **environ)
        assert str(caught.value).startswith(caught.value.problems[0])
        return caught.value.problems

    return problems
