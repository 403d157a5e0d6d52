"""Membership inference attacks as functions over arrays.

``registry`` lists them, ``scoring`` runs them over pools of models, ``signals`` holds
what they see. All scores: float64, one per sample, higher = more likely a member.
"""

from miagap.attacks.registry import Attack, AttackSpec, Parameter, parse
from miagap.attacks.scoring import (
    calibrated_thresholds,
    calibration_scores,
    score_targets,
    shadow_use,
    threshold_from_calibration,
)
from miagap.signals import Signals

__all__ = [
    "Attack",
    "AttackSpec",
    "Parameter",
    "Signals",
    "calibrated_thresholds",
    "calibration_scores",
    "parse",
    "score_targets",
    "shadow_use",
    "threshold_from_calibration",
]
