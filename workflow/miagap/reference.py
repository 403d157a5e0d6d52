"""The numbers of the paper, as data, to stand beside ours in the tables.

Source: "Generalization and Membership Inference Attack: a Practical Perspective",
arXiv:2604.19936. CIFAR-10, ResNet-18, 30,000 of 60,000 pooled images per training set, LiRA.
Accuracies and the true-positive rate at 0.1% false positives are shares (0..1) here; the
paper prints percent. It gives no intervals.
"""

from dataclasses import dataclass

SOURCE = "arXiv:2604.19936"
DATASET = "cifar10"


@dataclass(frozen=True)
class PaperRow:
    """One row of a table of the paper; every number is a share between 0 and 1."""

    train_accuracy: float
    test_accuracy: float
    tpr: float

    @property
    def accuracy_gap(self) -> float:
        """Training accuracy minus test accuracy."""
        return self.train_accuracy - self.test_accuracy


def _rows(percent: dict[str, tuple[float, float, float]]) -> dict[str, PaperRow]:
    """Turn rows of percent (train accuracy, test accuracy, TPR) into shares."""
    return {
        name: PaperRow(*(round(number / 100, 8) for number in row)) for name, row in percent.items()
    }


AUGMENTATION = _rows(
    {
        "none": (100.0, 76.55, 19.56),
        "crop": (95.75, 84.26, 0.73),
        "mirror": (98.75, 72.59, 4.52),
        "cifar_policy": (99.4, 80.75, 2.91),
        "cutout": (99.2, 76.49, 9.95),
        "crop+cutout": (96.81, 85.29, 0.63),
        "crop+mirror": (92.93, 82.43, 0.33),
        "cutout+mirror": (98.9, 81.43, 4.61),
        "crop+cutout+mirror": (95.35, 84.16, 0.54),
        "all": (94.94, 89.15, 0.18),
    }
)
"""Technique -> final model, attacked by LiRA."""

EARLY_STOPPING = _rows(
    {
        "1": (75.9, 67.4, 0.1),
        "2": (86.0, 68.3, 0.16),
        "3": (93.6, 72.3, 4.6),
        "4": (97.4, 73.2, 8.31),
        "5": (99.8, 75.7, 14.63),
        "6": (100.0, 76.8, 18.28),
    }
)
"""The paper's number of the checkpoint (1 = earliest) -> model trained without augmentation.

The paper numbers its checkpoints and names no epochs, so a study's checkpoints stand beside
these in their order, not by epoch.
"""
