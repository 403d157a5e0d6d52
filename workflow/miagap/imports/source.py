"""What was found in a folder of models: names of models, checkpoints, files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property


@dataclass(frozen=True)
class ImportedModel:
    """One model of the folder.

    Attributes:
        name: its folder or file name there.
        seed, split: what it is called in our tables.
        logits: checkpoint -> file with its answers.
        keep: file with what it was trained on; None where ``logits`` say it.
    """

    name: str
    seed: int
    split: int
    logits: Mapping[str, str]
    keep: str | None

    @property
    def run(self) -> tuple[int, int]:
        """Seed and split."""
        return self.seed, self.split

    @property
    def membership_file(self) -> str:
        """File that says what the model was trained on."""
        return self.keep or next(iter(self.logits.values()))


@dataclass(frozen=True)
class Imported:
    """What a folder holds.

    Attributes:
        layout: tf-privacy, lira-pytorch or parquet.
        dataset: name of the dataset in the tables.
        models: technique -> its models, in order.
        checkpoints: in order, the same for all models.
        labels: file with the labels; None where the logits' files hold them.
        targets: (seed, split) of the models to attack.
    """

    layout: str
    dataset: str
    models: Mapping[str, tuple[ImportedModel, ...]]
    checkpoints: tuple[str, ...]
    labels: str | None
    targets: tuple[tuple[int, int], ...]

    @property
    def runs(self) -> list[tuple[int, int]]:
        """(seed, split) of the models, the same for every technique."""
        return [model.run for model in next(iter(self.models.values()))]

    @property
    def first_file(self) -> str:
        """The first model's file at the first checkpoint, to which others are held."""
        return next(iter(self.models.values()))[0].logits[self.checkpoints[0]]

    @cached_property
    def by_run(self) -> Mapping[tuple[str, int, int], ImportedModel]:
        """Models by technique, seed and split."""
        return {(name, *m.run): m for name, models in self.models.items() for m in models}
