"""The settings that choose a pool."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class DatasetSettings:
    """The keys of the config's ``dataset`` section, with the same defaults."""

    source: str = "digits"
    path: str | None = None
    download: bool = False
    image_column: str | None = None
    label_column: str | None = None
    classes: Sequence[str | int] | None = None
    per_class: int | None = None
    size: int | None = None
    shuffle_labels: bool = False
