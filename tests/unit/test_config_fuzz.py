"""Whatever stands in a config: lines for the user, never an exception; a valid result stays so."""

import copy
import datetime
import random
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from miagap import config
from miagap.attacks.registry import ATTACKS
from miagap.config.schema import validator

ROOT = Path(__file__).parents[2]
VALID = yaml.safe_load((ROOT / "config.yaml").read_text())
FULL = config.resolve(
    {
        **VALID,
        "protocols": {"fixed_split": {"split": 3, "seeds": [1, 2]}},
        "splits": {"count": 8, "reserve": 0.1},
        "techniques": {
            "none": None,
            "mine": {
                "augmentations": [
                    {"crop": {"padding": 2}},
                    "mirror",
                    {"cutout": {"value": "mean"}},
                ],
                "training": {
                    "epochs": 9,
                    "checkpoints": [3, 9],
                    "best": True,
                    "schedule": "linear",
                },
            },
        },
        "attackers": {"mine": ["none"]},
        "calibration_models": 3,
    },
    ATTACKS,
)

STRANGE = [
    None,
    True,
    False,
    0,
    1,
    -1,
    7,
    10**400,
    0.5,
    -0.5,
    1e308,
    float("nan"),
    float("inf"),
    "",
    "none",
    "crop",
    "1e-3",
    "9" * 5000,
    "1e999",
    "a\nb",
    "\ud800",
    "best",
    datetime.date(2026, 1, 1),
    b"bytes",
    {1, 2},
    (1, 2),
    [],
    [None],
    [[]],
    [1, 1],
    ["identity", {}],
    [1, "a", None, 2.5],
    {},
    {"a": None},
    {None: 1},
    {1: {2: 3}},
    {"": ""},
    {"method": "lira"},
    {"crop": None},
    {"padding": {"padding": []}},
]


def places(value, path=()):
    """Paths of everything within a config."""
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, item in items:
        yield (*path, key)
        if isinstance(item, dict | list):
            yield from places(item, (*path, key))


PLACES = list(places(FULL.values))


def mutate(values, path, action, thing):
    """Change a config at a path (in place); a path that is gone is left alone."""
    for part in path[:-1]:
        try:
            values = values[part]
        except (KeyError, IndexError, TypeError):
            return
    if not isinstance(values, dict | list):
        return
    try:
        if action == "delete":
            del values[path[-1]]
        elif action == "rename":
            values[thing if isinstance(thing, str | int | None) else "x"] = values.pop(path[-1])
        else:
            values[path[-1]] = thing
    except (KeyError, IndexError, TypeError):
        return


def check(given_config):
    """Resolve a config and check what always holds."""
    resolved = config.resolve(given_config, ATTACKS)
    for line in resolved.errors + resolved.warnings:
        assert line.startswith("config.yaml: ")
        assert line.isprintable()
        assert len(line) < 600
    assert len(set(resolved.errors)) == len(resolved.errors)
    if not resolved.errors:
        assert validator().is_valid(resolved.values)
        again = config.resolve(resolved.values, ATTACKS)
        assert again == resolved
        config.data_warnings(resolved.values, 100)
    return resolved


def test_the_config_to_start_from_is_valid():
    assert FULL.errors == []
    check(FULL.values)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(PLACES),
            st.sampled_from(["set", "set", "set", "delete", "rename"]),
            st.sampled_from(STRANGE),
        ),
        min_size=1,
        max_size=6,
    )
)
def test_a_mutated_config_gives_lines_and_no_exception(mutations):
    values = copy.deepcopy(FULL.values)
    for path, action, thing in mutations:
        mutate(values, path, action, copy.deepcopy(thing))
    check(values)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.dictionaries(st.sampled_from([*FULL.values, "x"]), JSON, max_size=5))
def test_any_content_of_sections_gives_lines_and_no_exception(content):
    check(content)


@pytest.mark.parametrize("path", [path for path in PLACES if isinstance(path[-1], str)])
def test_a_wrong_value_anywhere_is_reported_at_its_key(path):
    values = copy.deepcopy(FULL.values)
    mutate(values, path, "set", datetime.date(2026, 1, 1))
    errors = check(values).errors
    key = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    assert len(errors) == 1
    assert errors[0].startswith(f"config.yaml: {key[1:]}: ")


@pytest.mark.parametrize("path", [path for path in PLACES if isinstance(path[-1], str)])
def test_a_wrong_type_anywhere_is_one_line_at_its_key(path):
    free = ("parameters", "palette", "results", "label_column", "image_column", "path")
    values = copy.deepcopy(FULL.values)
    mutate(values, path, "set", [[], {}] if path[-1] not in free else 3.5)
    errors = check(values).errors
    key = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    assert len(errors) >= 1
    assert all(line.startswith(f"config.yaml: {key[1:]}") for line in errors)


def test_a_config_that_holds_itself():
    loop: dict = {}
    loop["training"] = loop
    assert check(loop).errors
    items: list = []
    items.append(items)
    assert check({"seeds": items}).errors


def test_many_random_mutations_quickly():
    source = random.Random(0)
    for _ in range(300):
        values = copy.deepcopy(FULL.values)
        for _ in range(source.randint(1, 12)):
            thing = copy.deepcopy(source.choice(STRANGE))
            mutate(values, source.choice(PLACES), source.choice(["set", "rename"]), thing)
        check(values)
