"""Warnings that need to know how much data there is."""

from typing import Any

from miagap.config.problems import Path, key_path

_FPRS = (0.1, 0.01, 0.001, 0.0001)


def data_warnings(values: dict[str, Any], n_samples: int, label: str = "config.yaml") -> list[str]:
    """Say what a pool of ``n_samples`` samples is too small for.

    Args:
        values: a resolved config without errors.
        n_samples: samples of the pool after subsampling, the reserve included.
        label: what the lines begin with.
    """
    members = int(n_samples * (1 - values["splits"]["reserve"])) // 2
    found: list[tuple[Path, str]] = []
    fpr = values["metrics"]["headline_fpr"]
    if fpr * members < 1:
        usable = [str(rate) for rate in _FPRS if rate * members >= 1]
        advice = f"; the smallest usable one is {usable[-1]}" if usable else ""
        message = (
            f"a false positive rate of {fpr:g} is unresolved with {members} non-members per "
            f"target (it needs {round(1 / fpr)}): its true positive rates rest on zero false "
            f"positives{advice}"
        )
        found.append((("metrics", "headline_fpr"), message))
    sections: list[tuple[Path, dict[str, Any]]] = [(("training",), values["training"])]
    sections += [
        (("techniques", name, "training"), technique["training"])
        for name, technique in values["techniques"].items()
    ]
    for path, training in sections:
        size = training.get("batch_size", 0)
        if size > members:
            message = f"a batch of {size} is larger than the training set, {members} samples"
            found.append(((*path, "batch_size"), message))
    return [f"{label}: {key_path(path)}: {message}" for path, message in found]
