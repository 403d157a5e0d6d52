"""The list of attacks, and the check of what the config says of them."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Iterable, Mapping
from typing import Any

from miagap.attacks import (
    label_only,
    lira,
    neighbours,
    networks,
    offsets,
    perturbation,
    quantiles,
    regression,
    rmia,
    threshold,
    white_box,
)
from miagap.attacks.base import Attack, AttackSpec, Measurement, Parameter
from miagap.errors import InputError

__all__ = [
    "ATTACKS",
    "Attack",
    "AttackSpec",
    "Parameter",
    "describe",
    "measurements",
    "needs",
    "parse",
]

ATTACKS: dict[str, Attack] = {
    attack.method: attack
    for attack in (
        networks.SHOKRI,
        networks.SALEM_1,
        networks.SALEM_3,
        white_box.ATTACK,
        threshold.ATTACK,
        perturbation.MERLIN,
        perturbation.MORGAN,
        label_only.AUGMENT,
        label_only.DISTANCE,
        offsets.SABLAYROLLES,
        offsets.WATSON,
        lira.ATTACK,
        rmia.ATTACK,
        quantiles.POPULATION,
        quantiles.REFERENCE,
        quantiles.DISTILLED,
        neighbours.ATTACK,
        regression.ATTACK,
    )
}


def parse(name: str, settings: Mapping[str, Any]) -> AttackSpec:
    """Check one entry of the config's ``attacks`` and fill in defaults.

    Args:
        name: the attack's name in all tables.
        settings: ``method`` and any of its parameters.

    Raises:
        InputError: unknown method or parameter, or a value that is not allowed. All faults of
            the entry are named in the one line.
    """
    path = f"attacks.{name}"
    method = settings.get("method")
    if method not in ATTACKS:
        hint = nearest(str(method), ATTACKS)
        raise InputError(f"{path}.method: {method!r} is no attack; {hint}")
    known = ATTACKS[method].parameters
    faults = []
    for key, value in settings.items():
        if key == "method":
            continue
        if key not in known:
            faults.append(f"{path}.{key}: no parameter of {method}; {nearest(key, known)}")
        elif not known[key].accepts(value):
            faults.append(f"{path}.{key}: {value!r} is not allowed, use {known[key].allowed()}")
    if faults:
        raise InputError("; ".join(faults))
    values = {key: settings.get(key, parameter.default) for key, parameter in known.items()}
    return AttackSpec(name, method, values)


def nearest(word: str, names: Iterable[str]) -> str:
    """Return a hint at the nearest of the allowed names, or all of them."""
    allowed = sorted(names)
    near = difflib.get_close_matches(word, allowed, n=1)
    return f"did you mean {near[0]}?" if near else f"use one of {', '.join(allowed)}"


def needs(specs: Iterable[AttackSpec]) -> frozenset[str]:
    """Return what attacks need of the signals: of "phi", "loss", "logits", "reserve", measured."""
    return frozenset().union(*(ATTACKS[s.method].needs_of(s.parameters) for s in specs))


def measurements(specs: Iterable[AttackSpec]) -> list[Measurement]:
    """Return the signals that attacks need beyond logits, each once, by key."""
    found = {m for spec in specs for m in ATTACKS[spec.method].measurements(spec.parameters)}
    return sorted(found, key=lambda measurement: measurement.key)


def describe() -> list[dict[str, Any]]:
    """Return, for each attack, what the documentation says of it."""
    return [
        {
            "method": attack.method,
            "family": attack.family,
            "source": attack.source,
            "access": attack.access,
            "needs": sorted(attack.needs),
            "needs_if": {f"{k}: {v}": sorted(n) for (k, v), n in attack.needs_if.items()},
            "cost": attack.cost,
            "text": _module_text(attack),
            "parameters": {
                key: {
                    "type": parameter.kind,
                    "choices": list(parameter.choices),
                    "minimum": parameter.minimum,
                    "maximum": parameter.maximum,
                    "default": parameter.default,
                    "allowed": parameter.allowed(),
                    "text": parameter.text,
                }
                for key, parameter in attack.parameters.items()
            },
        }
        for attack in ATTACKS.values()
    ]


def _module_text(attack: Attack) -> str:
    """Return the docstring of the module that defines an attack: what it does, what differs."""
    return (sys.modules[attack.function.__module__].__doc__ or "").strip()


def markdown() -> str:
    """Return the documentation page of all attacks (docs/attacks.md)."""
    lines = [
        "# Attacks",
        "",
        "Generated from the registry; do not edit. Every attack gives one score per sample, higher",
        "= more likely a member. `needs` is what the attack reads of the target and the shadow",
        "models; a reserve is used where the study has one. [fidelity.md](fidelity.md) has each",
        "attack beside its authors' public code, on the same logits.",
        "",
        "| method | family | source | access | needs | cost |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    entries = describe()
    lines += [
        f"| `{e['method']}` | {e['family']} | {e['source']} | {e['access']} "
        f"| {_needs_text(e)} | {e['cost']} |"
        for e in entries
    ]
    told = ""
    for entry in entries:
        lines += ["", f"## {entry['method']}", ""]
        if entry["text"] != told:  # attacks of one module share its text
            lines += [entry["text"], ""]
        told = entry["text"]
        lines += [f"Parameters of `{entry['method']}`:", ""]
        lines += ["| parameter | default | allowed | meaning |", "| --- | --- | --- | --- |"]
        lines += [
            f"| `{key}` | `{_yaml(p['default'])}` | {p['allowed']} | {_cell(p['text'])} |"
            for key, p in entry["parameters"].items()
        ]
    return "\n".join(lines) + "\n"


def _needs_text(entry: Mapping[str, Any]) -> str:
    """Return an attack's needs in words, conditions included."""
    always = ", ".join(entry["needs"])
    further = [f"{', '.join(n)} with `{key}`" for key, n in entry["needs_if"].items()]
    return "; ".join(filter(None, [always, *further]))


def _cell(text: str) -> str:
    """Return text that a Markdown table does not break at."""
    return text.replace("|", "\\|")


def _yaml(value: object) -> str:
    """Return a scalar as it is written in the config."""
    return str(value).lower() if isinstance(value, bool) else str(value)
