"""Checks across keys: what each value says alone is right, but not together.

Each check takes the values with all defaults and yields what it finds. To add one, write
a function and list it in ``ERROR_CHECKS`` or ``WARNING_CHECKS``.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from miagap.config.problems import Path, Problem, did_you_mean, key_path, listed, show

Values = dict[str, Any]
Check = Callable[[Values], Iterator[Problem]]

_TORCHVISION = ("cifar10", "cifar100", "fashion_mnist")
_NEEDS_PATH = ("parquet", "folder", "npz")
_SCORE_COLUMNS = ("sample_id", "label", "member", "reserve", "split", "seed")


def _dataset_path(values: Values) -> Iterator[Problem]:
    dataset = values["dataset"]
    if dataset["source"] in _NEEDS_PATH and dataset["path"] is None:
        message = f"missing; dataset.source is {dataset['source']}, which needs a file or folder"
        yield Problem(("dataset", "path"), message, (("dataset", "source"),))


def _protocol_enabled(values: Values) -> Iterator[Problem]:
    protocols = values["protocols"]
    if not protocols["leave_one_out"] and protocols["fixed_split"] is None:
        message = (
            "no protocol is on; set leave_one_out: true or fixed_split: {split: 0, seeds: [1]}"
        )
        yield Problem(("protocols",), message)


def _fixed_split(values: Values) -> Iterator[Problem]:
    fixed, count = values["protocols"]["fixed_split"], values["splits"]["count"]
    if fixed is not None and fixed["split"] >= count:
        message = f"expected a split from 0 to {count - 1} (splits.count is {count})"
        path = ("protocols", "fixed_split", "split")
        yield Problem(path, f"{message}, got {fixed['split']}", (("splits", "count"),))


def _import_labels(values: Values) -> Iterator[Problem]:
    section = values["import"]
    if section is None:
        return
    needed = section["format"] == "lira-pytorch"
    if needed and section["labels"] is None:
        message = (
            "missing; import.format is lira-pytorch, whose folders hold no labels: give a file"
        )
        yield Problem(("import", "labels"), message, (("import", "format"),))
    if not needed and section["labels"] is not None:
        message = f"not used: the layout {section['format']} has the labels; leave the key out"
        yield Problem(("import", "labels"), message, (("import", "format"),))


def _residual_stages(values: Values) -> Iterator[Problem]:
    model = values["model"]
    widths, blocks = len(model["widths"]), len(model["blocks"])
    if model["name"] == "resnet" and widths != blocks:
        message = f"expected one number per stage: model.widths has {widths}, this has {blocks}"
        depends = (("model", "name"), ("model", "widths"))
        yield Problem(("model", "blocks"), message, depends)


def _training_sections(values: Values) -> Iterator[tuple[Path, dict[str, Any], dict[str, Any]]]:
    """Yield each training section: its path, what it sets itself, and what then holds."""
    common = values["training"]
    yield ("training",), common, common
    for name, technique in values["techniques"].items():
        own = technique["training"]
        if own:
            yield ("techniques", name, "training"), own, {**common, **own}


def _at(section: Path, own: dict[str, Any], keys: Iterable[str]) -> tuple[Path, tuple[Path, ...]]:
    """The key to mend (the first that the section sets) and all keys that a finding rests on."""
    keys = tuple(keys)
    key = next(key for key in keys if key in own)
    depends = [("training", key) for key in keys] + [(*section, key) for key in keys]
    return (*section, key), tuple(depends)


def _checkpoints_within_epochs(values: Values) -> Iterator[Problem]:
    for section, own, training in _training_sections(values):
        keys = ("checkpoints", "epochs")
        late = [epoch for epoch in training["checkpoints"] if epoch > training["epochs"]]
        if late and any(key in own for key in keys):
            path, depends = _at(section, own, keys)
            found = f"checkpoint {listed([str(epoch) for epoch in late], 'and')}"
            message = f"{found} beyond the last epoch, {training['epochs']}"
            if "checkpoints" not in own:
                message += f"; give {key_path((*section, 'checkpoints'))} too"
            yield Problem(path, message, depends)


def _milestones_within_epochs(values: Values) -> Iterator[Problem]:
    for section, own, training in _training_sections(values):
        keys = ("milestones", "schedule", "epochs")
        if training["schedule"] != "step" or not any(key in own for key in keys):
            continue
        path, depends = _at(section, own, keys)
        late = [epoch for epoch in training["milestones"] if epoch >= training["epochs"]]
        if not training["milestones"]:
            message = "schedule step needs training.milestones, epochs at which the rate falls"
            yield Problem(path, message, depends)
        elif late:
            found = f"milestone {listed([str(epoch) for epoch in late], 'and')}"
            message = f"{found} not before the last epoch, {training['epochs']}"
            yield Problem(path, message, depends)


def _warmup_within_epochs(values: Values) -> Iterator[Problem]:
    for section, own, training in _training_sections(values):
        keys = ("warmup", "epochs")
        if training["warmup"] >= training["epochs"] and any(key in own for key in keys):
            path, depends = _at(section, own, keys)
            message = f"a warm-up of {training['warmup']:g} epochs leaves nothing of the"
            yield Problem(path, f"{message} {training['epochs']} epochs to train", depends)


def _best_needs_reserve(values: Values) -> Iterator[Problem]:
    for section, own, _ in _training_sections(values):
        if own.get("best") and values["splits"]["reserve"] == 0:
            message = "the best checkpoint is found on the reserve; set splits.reserve, such as 0.1"
            yield Problem((*section, "best"), message, (("splits", "reserve"),))


def _nesterov_needs_momentum(values: Values) -> Iterator[Problem]:
    for section, own, training in _training_sections(values):
        keys = ("nesterov", "momentum")
        if training["nesterov"] and training["momentum"] == 0 and any(key in own for key in keys):
            path, depends = _at(section, own, keys)
            yield Problem(path, "nesterov: true needs a momentum above 0", depends)


def _dropout_of_own_model(values: Values) -> Iterator[Problem]:
    name = values["model"]["name"]
    for section, own, _ in _training_sections(values):
        if ":" in name and own.get("dropout"):
            message = f"has no effect on {name}; give it in model.parameters"
            yield Problem((*section, "dropout"), message, (("model", "name"),))


def _ranges_in_order(values: Values) -> Iterator[Problem]:
    sections: list[tuple[Path, dict[str, Any]]] = [
        (("augmentations", "cutout"), values["augmentations"]["cutout"])
    ]
    for name, technique in values["techniques"].items():
        for index, entry in enumerate(technique["augmentations"]):
            if isinstance(entry, dict) and "cutout" in entry:
                path: Path = ("techniques", name, "augmentations", index, "cutout")
                sections.append((path, entry["cutout"]))
    for section, parameters in sections:
        for key in ("scale", "ratio"):
            low, high = parameters.get(key, (0.0, 1.0))
            if low > high:
                message = f"expected [smallest, largest], got {show([low, high])}"
                yield Problem((*section, key), message)


def _attackers_known(values: Values) -> Iterator[Problem]:
    attackers, techniques = values["attackers"], values["techniques"]
    if isinstance(attackers, str):
        return
    for target, names in attackers.items():
        if target not in techniques:
            hint = did_you_mean(target, techniques, "techniques")
            message = f"no such technique{hint}"
            yield Problem(("attackers", target), message, (("techniques", target),))
        for index, name in enumerate(names):
            if name not in techniques:
                hint = did_you_mean(name, techniques, "techniques")
                path = ("attackers", target, index)
                message = f"no technique {show(name)}{hint}"
                yield Problem(path, message, (("techniques", name),))


def _attack_names(values: Values) -> Iterator[Problem]:
    for name in values["attacks"]:
        if name in _SCORE_COLUMNS:
            message = "this name is taken by a column of the score tables; choose another"
            yield Problem(("attacks", name), message)


def _headline_attack(values: Values) -> Iterator[Problem]:
    name, attacks = values["metrics"]["headline_attack"], values["attacks"]
    if name not in attacks:
        hint = did_you_mean(name, attacks, "attacks")
        message = f"no attack {show(name)}{hint}"
        yield Problem(("metrics", "headline_attack"), message, (("attacks", name),))


def _first_query(values: Values) -> Iterator[Problem]:
    queries = values["extraction"]["queries"]
    if queries[0] != "identity":
        message = f"expected identity as the first query, got {show(queries[0])}"
        yield Problem(("extraction", "queries"), message)


def _calibration_models(values: Values) -> Iterator[Problem]:
    available = (values["splits"]["count"] - 2) * len(values["seeds"])
    wanted = values["calibration_models"]
    if wanted > available and values["import"] is None:
        message = f"a target has {available} shadow models, which is fewer than {wanted}"
        depends = (("splits", "count"), ("seeds",))
        yield Problem(("calibration_models",), message, depends)


def _palette(values: Values) -> Iterator[Problem]:
    """A figure is drawn when all models are trained: too late to learn of its colours."""
    palette = values["figures"]["palette"]
    if palette == "colorblind":
        return
    from matplotlib import colormaps  # slow to load, and few studies name a map

    if palette not in colormaps:
        hint = did_you_mean(palette, colormaps, "matplotlib's colour maps")
        message = f"expected colorblind or a colour map such as tab10, got {show(palette)}{hint}"
        yield Problem(("figures", "palette"), message)


ERROR_CHECKS: tuple[Check, ...] = (
    _dataset_path,
    _protocol_enabled,
    _fixed_split,
    _import_labels,
    _residual_stages,
    _checkpoints_within_epochs,
    _best_needs_reserve,
    _nesterov_needs_momentum,
    _warmup_within_epochs,
    _milestones_within_epochs,
    _dropout_of_own_model,
    _ranges_in_order,
    _first_query,
    _attack_names,
    _attackers_known,
    _calibration_models,
    _headline_attack,
    _palette,
)


def _thin_calibration(values: Values) -> Iterator[Problem]:
    each = (values["splits"]["count"] - 4) // 2 * len(values["seeds"])
    if each < 2 and values["import"] is None:
        message = (
            f"with {values['splits']['count']} splits, thresholds rest on shadow models attacked "
            f"with {each} IN and {each} OUT models; 8 or more splits give at least 2"
        )
        yield Problem(("splits", "count"), message, (("seeds",),))


def _unused_dataset_keys(values: Values) -> Iterator[Problem]:
    dataset = values["dataset"]
    source = dataset["source"]
    if dataset["download"] and source not in _TORCHVISION:
        message = f"has no effect: only {listed(_TORCHVISION, 'and')} can be downloaded"
        yield Problem(("dataset", "download"), message, (("dataset", "source"),))
    for key in ("image_column", "label_column"):
        if dataset[key] is not None and source != "parquet":
            message = f"has no effect: dataset.source is {source}, not parquet"
            yield Problem(("dataset", key), message, (("dataset", "source"),))


def _unused_model_parameters(values: Values) -> Iterator[Problem]:
    model = values["model"]
    if model["parameters"] and ":" not in model["name"]:
        message = f"has no effect: model.name is {model['name']}, not a function of yours"
        yield Problem(("model", "parameters"), message, (("model", "name"),))


def _unused_milestones(values: Values) -> Iterator[Problem]:
    for section, own, training in _training_sections(values):
        if own.get("milestones") and training["schedule"] != "step":
            message = f"has no effect: the schedule is {training['schedule']}, not step"
            depends = (("training", "schedule"), (*section, "schedule"))
            yield Problem((*section, "milestones"), message, depends)


WARNING_CHECKS: tuple[Check, ...] = (
    _thin_calibration,
    _unused_dataset_keys,
    _unused_model_parameters,
    _unused_milestones,
)
