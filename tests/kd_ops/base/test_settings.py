"""Places with odd characters are used as they are, or refused before anything is written."""

from __future__ import annotations

from pathlib import Path

import pytest
from dvc.config import Config

from kd_core.runtime.errors import ParamsError
from kd_ops.base.settings import Settings
from kd_ops.stages.workspace import LINKS, fill

ODD = ["a,b", "a#b, c # d", "it's", 'say "no"', "a[b]", "${x}", "a=b", " a ", "ü"]


@pytest.mark.parametrize("name", ODD)
def test_dvc_uses_the_places_that_are_named(tmp_path: Path, name: str) -> None:
    settings = Settings(home=tmp_path / name / "home")
    folder = tmp_path / "workspace"
    folder.mkdir()
    fill(folder, settings, b"{}", {}, LINKS)
    config = Config(dvc_dir=str(folder / ".dvc"))
    assert config["cache"]["dir"] == str(settings.cache_dir)
    assert config["remote"]["store"]["url"] == f"{settings.store_uri}/dvc"
    assert config["core"]["site_cache_dir"] == str(folder / ".dvc/site")


@pytest.mark.parametrize("field", ["home", "store_uri", "runs_uri", "cache_dir"])
@pytest.mark.parametrize("name", ["100%", "a?b", "a::b", "a\nb", "a'b\"c"])
def test_what_other_settings_take_for_something_else_is_refused(tmp_path: Path, field: str, name: str) -> None:
    with pytest.raises(ParamsError, match=f"KD_{field.upper()}=.*choose a path without it"):
        Settings(**{field: str(tmp_path / name)})
