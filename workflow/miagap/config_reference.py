"""Write docs/config.md from the config's schema.

Usage: ``python -m miagap.config_reference`` writes the page,
``python -m miagap.config_reference --check`` only says whether it is current.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import yaml

from miagap.attacks.registry import ATTACKS
from miagap.config.attacks import AttackMethod, parameter_schema
from miagap.config.schema import Schema, describe, load_schema, resolve_reference, types_of

_TYPES = {"string": "text", "object": "mapping", "array": "list"}

PAGE = Path(__file__).parents[2] / "docs" / "config.md"

_INTRODUCTION = """\
# The config

<!-- Generated from workflow/schemas/config.schema.yaml: python -m miagap.config_reference -->

A study is one YAML file. Keys that it leaves out take the defaults below, so a file says only what
is particular to its study. `config.yaml` is the default study; another one is chosen with
`snakemake --configfile my-study.yaml`.

## Overriding

- `--configfile` replaces `config.yaml`: the two are not merged.
- `--configfile a.yaml b.yaml` merges: `b.yaml` wins. Mappings are merged key by key, at any depth;
  **lists and single values replace** what was there. `seeds: [1]` in `b.yaml` therefore leaves one
  seed, while `techniques: {mine: {augmentations: [crop]}}` adds a technique to those of `a.yaml`.
- To take a technique or an attack out of a merged file, give it as `false`:
  `techniques: {cutout: false}`.
- A file without `techniques` or `attacks` has the ten techniques and five attacks shown below; a
  file that lists some has those only.
- `--config` sets single keys: `--config seed=1 'training={epochs: 20, checkpoints: [20]}'`. It
  swallows targets that follow it, so write them first.
- A technique's own `training` overrides the study's `training` for that technique.

## Writing YAML

- `1e-3` is text to YAML readers; it is taken for the number here, as is `"0.001"`.
- `on`, `off`, `yes`, `no` and `null` are no text in YAML: as names of techniques or attacks they
  need quotes, and so do names that are numbers.
- `none:` with nothing behind it is an empty mapping, all defaults.
- A key that stands twice in a file is an error, since YAML readers keep the last without a word.
- Snakemake reads the file first, and of one that is no YAML it says only that. Where it is not,
  `python -m miagap.config my-study.yaml` says, with the line; `make run` asks it.

All that is wrong with a config is reported at once, one line for each key, before anything runs.
"""


def page() -> str:
    """Return the text of docs/config.md."""
    parts = [_INTRODUCTION]
    single = {}
    for key, entry in load_schema()["properties"].items():
        schema = resolve_reference(entry)
        if types_of(schema) == ("object",):
            parts.append(_section(key, schema))
            if key == "attacks":
                parts += [_method(name, method) for name, method in ATTACKS.items()]
        else:
            single[key] = schema
    study = {"properties": single, "description": "Keys at the top of the file."}
    parts.insert(1, _section("Study", study, title="Study"))
    return "\n".join(parts)


def _section(key: str, schema: Schema, title: str | None = None) -> str:
    lines = [f"## {title or f'`{key}`'}", "", schema["description"], "", *_table(schema)]
    if schema.get("default"):
        default = yaml.safe_dump(
            {key: schema["default"]}, sort_keys=False, default_flow_style=None, width=100
        )
        lines += ["", "Default:", "", "```yaml", default.rstrip(), "```"]
    return "\n".join(lines) + "\n"


def _method(name: str, method: AttackMethod) -> str:
    lines = [f"### Parameters of `method: {name}`", ""]
    lines += _table(parameter_schema(method)) if method.parameters else ["None."]
    return "\n".join(lines) + "\n"


def _table(schema: Schema) -> list[str]:
    head = ["| key | type | allowed | default | description |", "| --- | --- | --- | --- | --- |"]
    return head + ["| " + " | ".join(map(_cell, row)) + " |" for row in _rows(schema, "")]


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _rows(schema: Schema, prefix: str) -> Iterator[tuple[str, str, str, str, str]]:
    """Yield a row for every key of a section, those of nested mappings after their own."""
    required = schema.get("required", ())
    for key, entry in schema.get("properties", {}).items():
        entry = resolve_reference(entry)
        name = f"{prefix}{key}"
        group = types_of(entry) == ("object",) and "properties" in entry
        if not group or entry.get("x-partial"):
            default = "required" if key in required else _default(entry)
            yield f"`{name}`", _type(entry), _allowed(entry), default, entry["description"]
        if "properties" in entry and not entry.get("x-partial"):
            yield from _rows(entry, f"{name}.")
    entries = schema.get("additionalProperties")
    if isinstance(entries, Mapping):
        yield from _rows(resolve_reference(entries), f"{prefix}<{schema['x-name']}>.")


def _default(schema: Schema) -> str:
    if schema.get("x-partial"):
        return "`{}`"
    return f"`{json.dumps(schema['default'])}`"


def _type(schema: Schema) -> str:
    if "anyOf" in schema:
        return " or ".join(_type(resolve_reference(entry)) for entry in schema["anyOf"])
    words = [_TYPES.get(name, name) for name in types_of(schema)]
    items = resolve_reference(schema.get("items", {}))
    if items:
        plain = len(types_of(items)) == 1 and items["type"] != "string"
        words[words.index("list")] = f"list of {_type(items)}{'s' if plain else ''}"
    return " or ".join(words)


def _allowed(schema: Schema) -> str:
    if schema.get("x-partial"):
        return "keys of `training`"
    words = describe(schema)
    return {"text": "any", "text or null": "any", "a mapping": "any", "a number": "any"}.get(
        words, words
    )


def main() -> int:
    """Write the page, or check that it is current."""
    parser = argparse.ArgumentParser(prog="miagap.config_reference", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if outdated")
    check = parser.parse_args().check
    text = page()
    if not check:
        PAGE.write_text(text, encoding="utf-8")
    elif not PAGE.exists() or PAGE.read_text(encoding="utf-8") != text:
        print("docs/config.md: not current; run python -m miagap.config_reference", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
