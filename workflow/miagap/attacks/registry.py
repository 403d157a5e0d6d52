"""The list of attacks, and the check of what the config says of them."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any

from miagap.attacks import lira, threshold
from miagap.attacks.base import Attack, AttackSpec, Parameter
from miagap.errors import InputError

__all__ = ["ATTACKS", "Attack", "AttackSpec", "Parameter", "describe", "needs", "parse"]

ATTACKS: dict[str, Attack] = {attack.method: attack for attack in (lira.ATTACK, threshold.ATTACK)}


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
        hint = _nearest(str(method), ATTACKS)
        raise InputError(f"{path}.method: {method!r} is no attack; {hint}")
    known = ATTACKS[method].parameters
    faults = []
    for key, value in settings.items():
        if key == "method":
            continue
        if key not in known:
            faults.append(f"{path}.{key}: no parameter of {method}; {_nearest(key, known)}")
        elif not known[key].accepts(value):
            faults.append(f"{path}.{key}: {value!r} is not allowed, use {known[key].allowed()}")
    if faults:
        raise InputError("; ".join(faults))
    values = {key: settings.get(key, parameter.default) for key, parameter in known.items()}
    return AttackSpec(name, method, values)


def _nearest(word: str, names: Iterable[str]) -> str:
    """Return a hint at the nearest of the allowed names, or all of them."""
    allowed = sorted(names)
    near = difflib.get_close_matches(word, allowed, n=1)
    return f"did you mean {near[0]}?" if near else f"use one of {', '.join(allowed)}"


def needs(specs: Iterable[AttackSpec]) -> frozenset[str]:
    """Return what attacks need of the signals: of "phi", "loss", "logits", "reserve"."""
    found: set[str] = set()
    for spec in specs:
        attack = ATTACKS[spec.method]
        found |= attack.needs
        for (key, value), further in attack.needs_if.items():
            if spec.parameters[key] == value:
                found |= further
    return frozenset(found)


def describe() -> list[dict[str, Any]]:
    """Return, for each attack, what the documentation says of it."""
    return [
        {
            "method": attack.method,
            "family": attack.family,
            "source": attack.source,
            "access": attack.access,
            "needs": sorted(attack.needs),
            "cost": attack.cost,
            "parameters": {
                key: {
                    "type": parameter.kind,
                    "default": parameter.default,
                    "allowed": parameter.allowed(),
                    "text": parameter.text,
                }
                for key, parameter in attack.parameters.items()
            },
        }
        for attack in ATTACKS.values()
    ]
