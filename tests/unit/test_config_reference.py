"""The schema says everything about every key, and docs/config.md says what the schema says."""

import sys
from collections.abc import Mapping

import pytest
from jsonschema import Draft202012Validator

from miagap import config, config_reference
from miagap.config.normal import complete
from miagap.config.schema import load_schema, resolve_reference, types_of, validator


def keys(schema, path=()):
    """Every key of the schema, those below names of the user's included."""
    for key, entry in schema.get("properties", {}).items():
        entry = resolve_reference(entry)
        yield (*path, key), entry, key in schema.get("required", ())
        if not entry.get("x-partial"):
            yield from keys(entry, (*path, key))
    if isinstance(schema.get("additionalProperties"), Mapping):
        yield from keys(resolve_reference(schema["additionalProperties"]), (*path, "<name>"))


KEYS = {".".join(path): (entry, required) for path, entry, required in keys(load_schema())}


def test_the_schema_is_a_schema():
    Draft202012Validator.check_schema(load_schema())


@pytest.mark.parametrize("key", KEYS)
def test_every_key_is_described(key):
    entry, required = KEYS[key]
    section = types_of(entry) == ("object",) and "properties" in entry
    assert entry["description"].endswith((".", "`"))
    assert "type" in entry or "anyOf" in entry
    assert required or section or "default" in entry


@pytest.mark.parametrize("key", [key for key, (entry, _) in KEYS.items() if "default" in entry])
def test_every_default_is_valid(key):
    entry, _ = KEYS[key]
    default = complete(entry["default"], entry)
    assert validator().evolve(schema=entry).is_valid(default)


def test_unknown_keys_are_errors_wherever_the_user_chooses_no_names():
    free = {"model.parameters", "techniques", "attacks", "attackers"}
    for key, (entry, _) in KEYS.items():
        if "object" in types_of(entry) and key not in free:
            assert entry["additionalProperties"] is False, key


def test_all_defaults_make_a_valid_config():
    assert validator().is_valid(config.resolve({}).values)


def test_every_key_is_on_the_page():
    text = config_reference.page()
    for key in KEYS:
        name = key.split(".", 1)[-1].removeprefix("<name>.")
        assert f"`{name}`" in text or f".{name}`" in text or "properties" in KEYS[key][0], key


def test_tables_have_five_cells_a_row():
    for line in config_reference.page().splitlines():
        if line.startswith("|"):
            assert line.replace("\\|", "").count("|") == 6, line


def test_the_page_is_current(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["config_reference", "--check"])
    assert config_reference.main() == 0


def test_check_tells_an_outdated_page_and_writing_mends_it(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(config_reference, "PAGE", tmp_path / "config.md")
    monkeypatch.setattr(sys, "argv", ["config_reference", "--check"])
    assert config_reference.main() == 1
    assert "run python -m miagap.config_reference" in capsys.readouterr().err
    monkeypatch.setattr(sys, "argv", ["config_reference"])
    assert config_reference.main() == 0
    monkeypatch.setattr(sys, "argv", ["config_reference", "--check"])
    assert config_reference.main() == 0
