"""What a resolved config means: which models, checkpoints, targets and attackers a study has.

A view of the config's values and, where models are imported, of the names of files in their
folder. Each stage's settings are returned as the part of
the config that the stage depends on and nothing else, so that a change of a setting
reruns what it changes and no more.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from miagap import imports
from miagap.artifacts import canonical_json
from miagap.attacks.base import Measurement
from miagap.attacks.registry import Attack, measurements, needs, parse
from miagap.digest import text_digest
from miagap.errors import InputError
from miagap.names import BEST, FIXED_SPLIT, LEAVE_ONE_OUT, run_name

# Keys of `training` that say what is saved, not how a model is trained: they are outputs
# of the training job, so they must not be among the settings whose change retrains.
_NOT_TRAINING = frozenset({"checkpoints", "best"})
# Signals whose measurement trains models of its own.
_TRAINED_SIGNALS = frozenset({"distilled"})


@dataclass(frozen=True)
class Block:
    """Runs of one technique that one job trains (and one job extracts), with the same checkpoints.

    Attributes:
        name: unique among the study's blocks; part of the rule's name.
        techniques: the techniques that have such a block.
        runs: (seed, split) of each run, in the order of training.
        checkpoints: checkpoints that every run saves.
    """

    name: str
    techniques: tuple[str, ...]
    runs: tuple[tuple[int, int], ...]
    checkpoints: tuple[str, ...]

    @property
    def run_names(self) -> list[str]:
        """File name stems of the block's runs."""
        return [run_name(seed, split) for seed, split in self.runs]


@dataclass(frozen=True)
class AttackGroup:
    """Targets of one technique and checkpoint that one attacker attacks."""

    technique: str
    attacker: str
    checkpoint: str
    attacker_checkpoint: str


def pair(split: int) -> int:
    """Return the pair that a split belongs to: splits 2k and 2k + 1 are complements."""
    return split // 2


def chunks(items: Sequence[Any], size: int) -> Iterator[tuple[Any, ...]]:
    """Yield consecutive chunks of at most ``size`` items."""
    for start in range(0, len(items), size):
        yield tuple(items[start : start + size])


class Study:
    """A study as its config defines it.

    Args:
        values: the config with every default filled in (``miagap.config.resolve``).
        methods: what is known of each attack method (``miagap.attacks.registry.ATTACKS``).

    Raises:
        InputError: the folder of imported models lacks something, or an attack needs more of the
            models than was imported.
    """

    def __init__(self, values: Mapping[str, Any], methods: Mapping[str, Attack]) -> None:
        self.values = values
        self.methods = methods
        self.name: str = values["study"]
        self.folder: str = f"{values['results']}/{values['study']}"
        self.seed: int = values["seed"]
        section = values.get("import")
        self.imported = None if section is None else imports.list_models(section)
        self.techniques: list[str] = list(
            self.imported.models if self.imported else values["techniques"]
        )
        if self.imported and self.measurements:
            named = ", ".join(measurement.kind for measurement in self.measurements)
            raise InputError(
                f"attacks: {named} must be measured on the models, which an imported study has "
                "not; leave the attacks out that need it"
            )
        if self.imported:
            self._require_models(len(self.imported.runs), values["import"]["path"])

    def _require_models(self, count: int, path: str) -> None:
        """Raise InputError if imported models are too few for an attack, however they are split.

        Thresholds are set on a model that is attacked without itself and without the target.
        """
        for name, entry in self.values["attacks"].items():
            least = 2 * self.methods[entry["method"]].least_models + 2
            if count < least:
                raise InputError(
                    f"import.path: {path} holds {count} models, and attack {name} needs {least} "
                    "or more; leave the attack out or import more"
                )
        wanted = self.values["calibration_models"]
        if wanted > count - 1:
            raise InputError(
                f"calibration_models: {wanted} shadow models are wanted, and {path} holds {count} "
                "models, one of them the target; lower it"
            )

    # --- models ---------------------------------------------------------------------

    def training(self, technique: str) -> dict[str, Any]:
        """Return the training settings of a technique: the common ones and its overrides."""
        if self.imported:
            raise ValueError("imported models are not trained")
        overrides = self.values["techniques"][technique].get("training") or {}
        return {**self.values["training"], **overrides}

    def augmentations(self, technique: str) -> list[dict[str, Any]]:
        """Return a technique's augmentations in order, each with all its parameters."""
        found: list[dict[str, Any]] = []
        if self.imported:
            return found
        for entry in self.values["techniques"][technique].get("augmentations") or []:
            name, own = (entry, {}) if isinstance(entry, str) else next(iter(entry.items()))
            parameters = {**self.values["augmentations"][name], **(own or {})}
            found.append({"name": name, "parameters": parameters})
        return found

    def checkpoints(self, technique: str) -> list[str]:
        """Return a technique's checkpoints: epochs in order, then ``best`` if saved."""
        if self.imported:
            return list(self.imported.checkpoints)
        training = self.training(technique)
        epochs = [str(epoch) for epoch in sorted(training["checkpoints"])]
        return [*epochs, BEST] if training["best"] else epochs

    def final_checkpoint(self, technique: str) -> str:
        """Return the last epoch at which a technique's models are saved."""
        if self.imported:
            return self.imported.checkpoints[-1]
        return str(max(self.training(technique)["checkpoints"]))

    @property
    def leave_one_out(self) -> bool:
        """Whether every model of a pool is a target."""
        return self.imported is not None or bool(self.values["protocols"]["leave_one_out"])

    @cached_property
    def pool_runs(self) -> list[tuple[int, int]]:
        """(seed, split) of the shadow pool's models, the same for every technique.

        Without leave-one-out, the fixed split's pair is not trained for the pool: no
        attacker may use it.
        """
        if self.imported:
            return self.imported.runs
        fixed = self.values["protocols"]["fixed_split"]
        unused = pair(fixed["split"]) if fixed and not self.leave_one_out else None
        splits = [s for s in range(self.values["splits"]["count"]) if pair(s) != unused]
        return [(seed, split) for seed in self.values["seeds"] for split in splits]

    @cached_property
    def fixed_runs(self) -> list[tuple[int, int]]:
        """(seed, split) of the fixed-split protocol's targets."""
        if self.imported:
            return []
        fixed = self.values["protocols"]["fixed_split"]
        return [(seed, fixed["split"]) for seed in fixed["seeds"]] if fixed else []

    @cached_property
    def extra_runs(self) -> list[tuple[int, int]]:
        """Fixed-split targets that are not models of the pool too."""
        pool = set(self.pool_runs)
        return [run for run in self.fixed_runs if run not in pool]

    @cached_property
    def blocks(self) -> list[Block]:
        """Return the runs as blocks, one job's worth each.

        Blocks follow splits (pool) and seeds (fixed-split targets) in order, so that a
        study that grows by whole blocks leaves the existing ones as they are.
        """
        size = self.values["compute"]["models_per_job"]
        by_checkpoints: dict[tuple[str, ...], list[str]] = {}
        for technique in self.techniques:
            by_checkpoints.setdefault(tuple(self.checkpoints(technique)), []).append(technique)
        runs: list[tuple[tuple[int, int], ...]] = []
        for seed in dict.fromkeys(seed for seed, _ in self.pool_runs):
            own = [run for run in self.pool_runs if run[0] == seed]
            runs.extend(chunks(own, size))
        runs.extend(chunks(self.extra_runs, size))
        found = []
        for checkpoints, techniques in by_checkpoints.items():
            suffix = "" if len(by_checkpoints) == 1 else f"_at_{_saved(checkpoints)}"
            for block in runs:
                spans = [
                    _span("seed", [s for s, _ in block]),
                    _span("split", [s for _, s in block]),
                ]
                name = "_".join(spans) + suffix
                found.append(Block(name, tuple(techniques), block, checkpoints))
        return found

    # --- attacks --------------------------------------------------------------------

    def attackers(self, technique: str) -> list[str]:
        """Return whose shadow pools attack a technique's models: its own first."""
        setting = self.values["attackers"]
        if setting == "same":
            others: Sequence[str] = ()
        elif setting == "matrix":
            others = self.techniques
        else:
            others = setting.get(technique, ())
        return [technique, *(other for other in others if other != technique)]

    def attacker_checkpoint(self, technique: str, attacker: str, checkpoint: str) -> str:
        """Return the checkpoint of the attacker's shadow models for a target's checkpoint."""
        if self.values["attacker_checkpoint"] == "final" or technique != attacker:
            return self.final_checkpoint(attacker)
        return checkpoint

    @cached_property
    def attack_groups(self) -> list[AttackGroup]:
        """Return every (technique, attacker, checkpoint) of the study.

        An attacker with the target's technique attacks every checkpoint; one with another
        technique attacks the final checkpoint.
        """
        groups = []
        for technique in self.techniques:
            for attacker in self.attackers(technique):
                final = [self.final_checkpoint(technique)]
                for checkpoint in self.checkpoints(technique) if attacker == technique else final:
                    own = self.attacker_checkpoint(technique, attacker, checkpoint)
                    groups.append(AttackGroup(technique, attacker, checkpoint, own))
        return groups

    @property
    def protocols(self) -> list[str]:
        """The protocols that the study uses."""
        fixed = [FIXED_SPLIT] if self.fixed_runs else []
        return [LEAVE_ONE_OUT, *fixed] if self.leave_one_out else fixed

    @property
    def attack_needs(self) -> frozenset[str]:
        """What the configured attacks need of the signals."""
        return needs([parse(name, entry) for name, entry in self.values["attacks"].items()])

    @cached_property
    def measurements(self) -> list[Measurement]:
        """Signals beyond logits that the configured attacks need of every model."""
        return measurements([parse(name, entry) for name, entry in self.values["attacks"].items()])

    def targets(self, protocol: str) -> list[tuple[int, int]]:
        """Return (seed, split) of a protocol's targets."""
        if self.imported:
            return list(self.imported.targets)
        return self.pool_runs if protocol == LEAVE_ONE_OUT else self.fixed_runs

    # --- settings of the stages, as canonical text --------------------------------------

    def dataset_settings(self) -> str:
        """Return what the pool depends on."""
        return canonical_json({"dataset": self.values["dataset"], "study_seed": self.seed})

    def import_settings(self) -> str:
        """Return what is imported; which models are attacked is no part of it."""
        return canonical_json({**self.values["import"], "targets": None})

    def split_settings(self) -> str:
        """Return what the membership table depends on."""
        return canonical_json(self.values["splits"])

    @property
    def _drawing(self) -> dict[str, Any]:
        """What a split and the reserve are drawn from; how many splits there are is no part."""
        splits = self.values["splits"]
        return {"split_seed": splits["seed"], "reserve_share": splits["reserve"]}

    def training_settings(self, technique: str) -> str:
        """Return what the weights of a technique's models depend on."""
        compute = {
            key: self.values["compute"][key]
            for key in ("device", "precision", "threads", "deterministic")
        }
        training = {k: v for k, v in self.training(technique).items() if k not in _NOT_TRAINING}
        return canonical_json(
            {
                "study_seed": self.seed,
                "technique": technique,
                "splits": self._drawing,
                "model": self.values["model"],
                "training": training,
                "augmentations": self.augmentations(technique),
                "compute": compute,
            }
        )

    def extraction_settings(self) -> str:
        """Return what the logits of a checkpoint depend on, beside its weights."""
        extraction = {k: v for k, v in self.values["extraction"].items() if k != "keep_models"}
        return canonical_json(
            {
                "model": self.values["model"],
                "extraction": extraction,
                "splits": self._drawing,
                "compute": {k: self.values["compute"][k] for k in ("device", "threads")},
            }
        )

    def measurement_settings(self, measurement: Measurement, technique: str) -> str:
        """Return what a signal depends on, beside the weights of the models that are asked."""
        settings = {
            "kind": measurement.kind,
            "parameters": dict(measurement.parameters),
            "study_seed": self.seed,
            "model": self.values["model"],
            "compute": {key: self.values["compute"][key] for key in ("device", "threads")},
        }
        if measurement.kind in _TRAINED_SIGNALS:
            # Students learn as the technique's own models do.
            training = json.loads(self.training_settings(technique))
            kept = ("model", "training", "augmentations")
            settings["recipe"] = {key: training[key] for key in kept}
            settings["splits"] = self._drawing
        return canonical_json(settings)

    def shadow_settings(self) -> str:
        """Return what a shadow pool holds: only what an attack needs beside phi and loss."""
        settings = {"logits": "logits" in self.attack_needs, "splits": self._drawing}
        if self.measurements:  # absent, so that it changes no study without such attacks
            settings["signals"] = [measurement.key for measurement in self.measurements]
        return canonical_json(settings)

    def presentation_settings(self) -> str:
        """Return what tables and figures read from the tidy tables."""
        return canonical_json(
            {
                "techniques": self.techniques,
                "augmentations": {
                    name: [one["name"] for one in self.augmentations(name)]
                    for name in self.techniques
                },
                "attacks": list(self.values["attacks"]),  # mappings are put in order of name
                "families": {
                    name: self.methods[entry["method"]].family
                    for name, entry in self.values["attacks"].items()
                },
                "metrics": self.values["metrics"],
                "seed": self.seed,
            }
        )

    def vulnerability_settings(self) -> str:
        """Return what per-sample results depend on, beside the scores."""
        metrics = self.values["metrics"]
        return canonical_json(
            {
                "attack": metrics["headline_attack"],
                "fpr": metrics["headline_fpr"],
                "confidence": metrics["confidence"],
            }
        )

    def figure_settings(self) -> str:
        """Return how figures look."""
        return canonical_json(self.values["figures"])

    def attack_settings(self) -> str:
        """Return what scores and metrics depend on, beside the logits."""
        keys = ("attacks", "calibration_models")
        metrics = {k: v for k, v in self.values["metrics"].items() if not k.startswith("headline")}
        return canonical_json(
            {**{key: self.values[key] for key in keys}, "metrics": metrics, "seed": self.seed}
        )


def figure_names(study: Study) -> list[str]:
    """Return the names of the figures that a study yields, in the order of the report."""
    return available_figures(
        study.techniques,
        {name: study.checkpoints(name) for name in study.techniques},
        {name: study.attackers(name) for name in study.techniques},
        [study.methods[entry["method"]].family for entry in study.values["attacks"].values()],
    )


def available_figures(
    techniques: Sequence[str],
    checkpoints: Mapping[str, Sequence[str]],
    attackers: Mapping[str, Sequence[str]],
    families: Sequence[str] = (),
) -> list[str]:
    """Return the names of figures in the order of the report.

    Args:
        techniques: technique names.
        checkpoints: technique -> its checkpoints.
        attackers: technique -> techniques of those who attack it, itself included or not.
        families: family of each of the study's attacks.
    """
    found = ["roc_techniques"]
    if any(len(names) > 1 for names in checkpoints.values()):
        found.append("roc_checkpoints")
    crossed = [name for name in techniques if set(attackers.get(name, ())) - {name}]
    paper = [name for name in ("cifar_policy", "all") if name in crossed]
    augmented = [name for name in crossed if name != "none"]
    found += [f"attacker_{name}" for name in paper or augmented[:2] or crossed]
    found += ["gap_vs_tpr", "accuracy_vs_tpr", "loss_gap_vs_tpr"]
    if crossed:
        found.append("attacker_matrix")
    if len(families) > 1:
        found += ["attack_comparison", "roc_attacks"]
    if len(set(families)) > 1:
        found.append("family_comparison")
    return found


def table_names(study: Study) -> list[str]:
    """Return the names of the tables to print that a study yields, in the order of the report."""
    found = ["augmentation"]
    if any(len(study.checkpoints(name)) > 1 for name in study.techniques):
        found.append("early_stopping")
    found += ["attack_comparison", "decisions", "claims"]
    seeds = {seed for seed, _ in study.targets(study.protocols[0])}
    return [*found, "stability"] if len(study.techniques) > 1 or len(seeds) > 1 else found


def _saved(checkpoints: Sequence[str]) -> str:
    """Name a set of checkpoints: ``2_6_18``; a long one by its ends and a digest."""
    text = "_".join(checkpoints)
    if len(text) <= 24:
        return text
    return f"{checkpoints[0]}to{checkpoints[-1]}_{text_digest(text)[:4]}"


def _span(word: str, numbers: Sequence[int]) -> str:
    first, last = min(numbers), max(numbers)
    return f"{word}{first}" if first == last else f"{word}{first}to{last}"
