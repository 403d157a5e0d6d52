"""Models, checkpoints and targets of a folder in each layout, by the names of its files alone."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from miagap.errors import InputError
from miagap.imports.source import Imported, ImportedModel
from miagap.names import parse_run_name

UNNUMBERED = "final"
"""Checkpoint of models whose epoch nobody wrote down."""
_EPOCH = re.compile(r"\d{10}")
_RUN = re.compile(r"seed\d+-split\d+")


def list_models(settings: Mapping[str, Any]) -> Imported:
    """Look up the models, checkpoints and targets of a study that is imported.

    Args:
        settings: the config's section ``import``.

    Raises:
        InputError: the folder or a file is missing, or a checkpoint or target does not exist.
    """
    folder = Path(settings["path"])
    if not folder.is_dir():
        raise InputError(f"import.path: folder {folder} not found; give the folder of the models")
    models, checkpoints = _LISTERS[settings["format"]](folder, settings)
    for technique, found in models.items():
        if len(found) < 2:
            raise InputError(
                f"import.path: {folder} holds {len(found)} model of {technique}; an attack needs "
                "at least one more for each target"
            )
    labels = {"tf-privacy": str(folder / "y_train.npy"), "lira-pytorch": settings["labels"]}
    return Imported(
        layout=settings["format"],
        dataset=settings["dataset"],
        models=models,
        checkpoints=checkpoints,
        labels=labels.get(settings["format"]),
        targets=_targets(settings["targets"], next(iter(models.values()))),
    )


_Listed = tuple[dict[str, tuple[ImportedModel, ...]], tuple[str, ...]]


def _list_tf_privacy(folder: Path, settings: Mapping[str, Any]) -> _Listed:
    experiments = _folders(folder, "experiment-*", "tf-privacy")
    epochs = {}
    for place in experiments:
        found = {p.stem: p for p in place.glob("logits/*.npy") if _EPOCH.fullmatch(p.stem)}
        if not found:
            raise InputError(f"{place}/logits: no <10-digit epoch>.npy there; run score.py")
        epochs[place] = {int(stem): str(path) for stem, path in found.items()}
    chosen = _choose_epochs(folder, {p.name: set(e) for p, e in epochs.items()}, settings["epoch"])
    models = [
        ({str(epoch): epochs[place][epoch] for epoch in chosen}, str(place / "keep.npy"))
        for place in experiments
    ]
    names = [place.name for place in experiments]
    found_models = _numbered(names, models)
    return {settings["technique"]: found_models}, tuple(str(epoch) for epoch in chosen)


def _list_lira_pytorch(folder: Path, settings: Mapping[str, Any]) -> _Listed:
    if isinstance(settings["epoch"], int):
        raise InputError(
            f"import.epoch: {settings['epoch']} is not known, for format lira-pytorch has no "
            "epochs; leave the key out"
        )
    places = [place for place in _folders(folder, "*", "lira-pytorch") if any(place.glob("*.npy"))]
    if not places:
        raise InputError(f"import.path: {folder} has no <id>/logits.npy")
    models = []
    for place in places:
        if not (place / "logits.npy").is_file():
            raise InputError(f"{place}/logits.npy: file not found; run inference.py")
        models.append(({UNNUMBERED: str(place / "logits.npy")}, str(place / "keep.npy")))
    return {settings["technique"]: _numbered([p.name for p in places], models)}, (UNNUMBERED,)


def _list_parquet(folder: Path, settings: Mapping[str, Any]) -> _Listed:
    if any(folder.glob("checkpoint-*")):
        places = {settings["technique"]: folder}
    else:
        places = {p.name: p for p in sorted(folder.iterdir()) if any(p.glob("checkpoint-*"))}
    if not places:
        raise InputError(
            f"import.path: {folder} has no checkpoint-*/seed*-split*.parquet; give a folder "
            "logits/<technique> of a study, or logits"
        )
    files = {name: _own_files(place) for name, place in places.items()}
    everywhere = {f"{name}/{run}": set(own) for name, runs in files.items() for run, own in runs}
    first = [run for run, _ in next(iter(files.values()))]
    for name, runs in files.items():
        if [run for run, _ in runs] != first:
            raise InputError(
                f"import.path: {places[name]} has other models than {places[next(iter(places))]}; "
                "techniques must have the same seeds and splits"
            )
    chosen = [str(epoch) for epoch in _choose_epochs(folder, everywhere, settings["epoch"])]
    models = {}
    for name, runs in files.items():
        models[name] = tuple(
            ImportedModel(run, *parse_run_name(run), {key: own[int(key)] for key in chosen}, None)
            for run, own in runs
        )
    return models, tuple(chosen)


def _own_files(place: Path) -> list[tuple[str, dict[int, str]]]:
    """Return the runs of a technique's folder in order, each with its file at every epoch."""
    found: dict[str, dict[int, str]] = {}
    for path in sorted(place.glob("checkpoint-*/seed*-split*.parquet")):
        epoch = path.parent.name.removeprefix("checkpoint-")
        if epoch.isdigit() and _RUN.fullmatch(path.stem):
            found.setdefault(path.stem, {})[int(epoch)] = str(path)
    return sorted(found.items(), key=lambda item: _natural(item[0]))


_LISTERS: dict[str, Callable[[Path, Mapping[str, Any]], _Listed]] = {
    "tf-privacy": _list_tf_privacy,
    "lira-pytorch": _list_lira_pytorch,
    "parquet": _list_parquet,
}


def _folders(folder: Path, pattern: str, layout: str) -> list[Path]:
    found = sorted(
        (p for p in folder.glob(pattern) if p.is_dir() and not p.name.startswith(".")),
        key=lambda p: _natural(p.name),
    )
    if not found:
        raise InputError(f"import.path: {folder} has no folder {pattern} (format {layout})")
    return found


def _natural(name: str) -> list[tuple[int, str]]:
    """Sort key that takes digits as numbers: experiment-9 comes before experiment-10."""
    parts = re.split(r"(\d+)", name)
    return [(int(part), "") if part.isdigit() else (-1, part) for part in parts]


def _choose_epochs(folder: Path, found: Mapping[str, set[int]], wanted: str | int) -> list[int]:
    """Return the newest epoch that all models have, all such, or the one that is named."""
    common = set.intersection(*found.values())
    if isinstance(wanted, int):
        for name, epochs in found.items():
            if wanted not in epochs:
                have = ", ".join(str(epoch) for epoch in sorted(epochs))
                raise InputError(f"import.epoch: {name} has no epoch {wanted}; it has {have}")
        return [wanted]
    if not common:
        raise InputError(f"import.epoch: no epoch is there for every model of {folder}; name one")
    return sorted(common) if wanted == "all" else [max(common)]


def _numbered(
    names: Sequence[str], files: Iterable[tuple[dict[str, str], str]]
) -> tuple[ImportedModel, ...]:
    """Number models by the number that their names end with, or else in order."""
    ends = [re.search(r"(\d+)$", name) for name in names]
    numbers = [int(end[1]) for end in ends if end]
    if len(set(numbers)) < len(names):
        numbers = list(range(len(names)))
    return tuple(
        ImportedModel(name, 0, number, logits, keep)
        for name, number, (logits, keep) in zip(names, numbers, files, strict=True)
    )


def _targets(
    wanted: Sequence[str] | None, models: Sequence[ImportedModel]
) -> tuple[tuple[int, int], ...]:
    if wanted is None:
        return tuple(model.run for model in models)
    by_name = {model.name: model.run for model in models}
    for name in wanted:
        if name not in by_name:
            near = difflib.get_close_matches(name, by_name) or list(by_name)[:3]
            raise InputError(
                f"import.targets: no model {name} in the folder; there is {', '.join(near)}"
            )
    return tuple(dict.fromkeys(by_name[name] for name in wanted))
