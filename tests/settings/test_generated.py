"""The committed files say what the model says, and mean what they say."""

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from gateway.errors import ConfigurationError
from gateway.settings import kinds
from gateway.settings.generate import GENERATED, write
from gateway.settings.loading import load
from gateway.settings.model import Settings

ROOT = Path(__file__).parents[2]
EVERY_SETTING = (ROOT / "config/gateway.toml").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", GENERATED)
def test_committed_files_are_as_they_would_be_made_now(name: str, tmp_path: Path) -> None:
    """After a change of the model: `python -m gateway.settings.generate`."""
    write(tmp_path)
    assert (ROOT / name).read_text(encoding="utf-8") == (tmp_path / name).read_text(encoding="utf-8")


def test_the_commented_file_means_the_defaults() -> None:
    """Starting with it as it is, is starting with `--upstream http://127.0.0.1:9000`."""
    from_file = load(ROOT / "config/gateway.toml").settings
    assert from_file == load(overrides={"upstream": "http://127.0.0.1:9000"}).settings


def test_the_commented_file_shows_every_setting_with_its_default() -> None:
    """With every # taken away nothing changes, but for what is unset unless given."""
    everything = tomllib.loads(re.sub(r"(?m)^#(?=[a-z_]+ = |\[)", "", EVERY_SETTING))
    for path, model in kinds.walk(Settings):
        shown = everything[path[0]][0] if isinstance(everything[path[0]], list) else everything[path[0]]
        shown = shown[path[1]] if len(path) > 1 else shown
        assert set(shown) == set(kinds.fields(model))
    Settings.model_validate(everything)
    without_examples = Settings.model_validate(_without_optional(everything, Settings))
    assert without_examples == load(ROOT / "config/gateway.toml").settings


def _without_optional(table: dict[str, Any], model: type[BaseModel]) -> dict[str, Any]:
    kept: dict[str, Any] = {}
    for name, kind in kinds.fields(model).items():
        if name not in table or kind.optional:
            continue
        value = table[name]
        if kind.model is None:
            kept[name] = value
        elif isinstance(value, list):
            kept[name] = [_without_optional(row, kind.model) for row in value]
        else:
            kept[name] = _without_optional(value, kind.model)
    return kept


def test_the_example_can_be_started() -> None:
    """A reader may begin from it."""
    assert len(load(ROOT / "config/example.toml", require_upstream=True).settings.routes) == 4


def test_the_schema_knows_every_setting_and_nothing_else() -> None:
    """An editor that follows the schema marks a misspelt name."""
    schema = json.loads((ROOT / "config/gateway.schema.json").read_text(encoding="utf-8"))
    assert schema["additionalProperties"] is False
    for _, model in kinds.walk(Settings):
        table = schema["$defs"][model.__name__]
        assert set(table["properties"]) == set(kinds.fields(model))
        assert table["additionalProperties"] is False


def test_the_mistakes_in_the_reference_read_as_it_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The page's example of messages is what a person gets to see."""
    monkeypatch.chdir(tmp_path)
    lines = ["[server]", "workers = 1", "worker = 4", "", "", "", "", "[cache]", 'positive_ttl_seconds = "1m"']
    lines += ["[[upstreams]]", 'name = "billing"', 'targets = ["http://b"]']
    lines += ["[[routes]]", 'name = "a"', 'upstream = "billing"', "[[routes]]", 'upstream = "biling"', 'name = "b"']
    lines += ['path = "/b"']
    Path("gateway.toml").write_text("\n".join(lines), encoding="utf-8")
    with pytest.raises(ConfigurationError) as caught:
        load(Path("gateway.toml"))
    page = (ROOT / "docs/settings.md").read_text(encoding="utf-8")
    assert caught.value.detail == "\n".join(re.findall(r"(?m)^    (gateway\.toml:.*)$", page))


def test_the_reference_has_every_setting() -> None:
    """Each as a row of the table of its section."""
    page = (ROOT / "docs/settings.md").read_text(encoding="utf-8")
    for path, model in kinds.walk(Settings):
        section = page.partition(f"## `{kinds.header(path)}`")[2].partition("\n## ")[0]
        for name, kind in kinds.fields(model).items():
            assert (f"| `{name}` |" in section) == (kind.model is None), name
