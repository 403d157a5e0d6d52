"""Distance of a sample to the decision boundary, found from labels alone by HopSkipJump.

Source: Chen, Jordan & Wainwright 2020, "HopSkipJumpAttack", L2, untargeted, all samples of a
part side by side. What differs: the start is the first of a few random images with another
label, the number of queries of a step is the same at all steps, and their distance from the
boundary point is a fixed share of the distance to the sample.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from miagap.measurements.subject import Asking, Part, Subject

STARTS = 20
HALVINGS = 12
PROBE = 0.01


@torch.inference_mode()
def measure(subject: Subject, parameters: Mapping[str, Any]) -> np.ndarray:
    """Return the distances, float32 (n,), L2 in units of the pixel range.

    0 where the sample's own label is wrong. Where no start has another label, the distance to
    the farthest of them.

    Args:
        subject: the model and the samples.
        parameters: ``steps`` along the boundary, each of ``queries`` queries for its direction.
    """
    asking = Asking(subject)
    distance = np.empty(len(subject.pool), np.float32)
    for part in asking.parts():
        walk = Walk(asking, part)
        for step in range(parameters["steps"]):
            walk.step(step + 1, parameters["queries"])
        distance[part.rows] = walk.distance().cpu().numpy()
    return distance


class Walk:
    """Points with another label that draw near to their samples."""

    def __init__(self, asking: Asking, part: Part) -> None:
        self.asking, self.labels = asking, part.labels
        self.origin = part.pixels / 255.0
        self.generator = asking.generator("boundary", part.rows.start)
        self.wrong = self._other(self.origin)
        self.point, self.found = self._start()
        self.point = self._approach(self.point)

    def distance(self) -> Tensor:
        """Return each point's distance to its sample (B,), 0 where the sample's label is wrong."""
        far = _norm(self.point - self.origin)
        return torch.where(self.wrong, torch.zeros_like(far), far)

    def step(self, number: int, queries: int) -> None:
        """Move along the boundary, ``number`` from 1, and back to it."""
        length = _norm(self.point - self.origin)
        direction = self._direction(queries, PROBE * length)
        stride = length / number**0.5
        moved = self.point.clone()
        waiting = self.found.clone()
        for _ in range(HALVINGS):
            trial = (self.point + _wide(stride) * direction).clamp(0, 1)
            good = waiting & self._other(trial)
            moved = torch.where(_wide(good), trial, moved)
            waiting &= ~good
            stride = stride / 2
        nearer = self._approach(moved)
        better = _norm(nearer - self.origin) < length
        self.point = torch.where(_wide(better), nearer, self.point)

    def _other(self, images: Tensor) -> Tensor:
        return ~self.asking.right(255.0 * images, self.labels)

    def _start(self) -> tuple[Tensor, Tensor]:
        """Return random images with another label, and where one was found."""
        point, found = self.origin.clone(), self.wrong.clone()
        for _ in range(STARTS):
            trial = torch.rand(
                self.origin.shape, generator=self.generator, device=self.origin.device
            )
            good = ~found & self._other(trial)
            farther = ~found & ~good & (_norm(trial - self.origin) > _norm(point - self.origin))
            point = torch.where(_wide(good | farther), trial, point)
            found |= good
        return point, found

    def _approach(self, point: Tensor) -> Tensor:
        """Search the line to the sample by halves for the boundary; stay on the other side."""
        near, far = torch.zeros_like(point[:, 0, 0, 0]), torch.ones_like(point[:, 0, 0, 0])
        for _ in range(HALVINGS):
            middle = (near + far) / 2
            other = self._other(torch.lerp(self.origin, point, _wide(middle)))
            far = torch.where(other, middle, far)
            near = torch.where(other, near, middle)
        nearest = torch.lerp(self.origin, point, _wide(far))
        return torch.where(_wide(self.found), nearest, point)

    def _direction(self, queries: int, probe: Tensor) -> Tensor:
        """Estimate the unit normal of the boundary, towards other labels."""
        sides, total, plain = [], torch.zeros_like(self.point), torch.zeros_like(self.point)
        for _ in range(queries):
            drawn = torch.randn(
                self.point.shape, generator=self.generator, device=self.point.device
            )
            drawn = drawn / _wide(_norm(drawn))
            side = 2.0 * self._other((self.point + _wide(probe) * drawn).clamp(0, 1)) - 1.0
            sides.append(side)
            total += _wide(side) * drawn
            plain += drawn
        mean = torch.stack(sides).mean(dim=0)
        # All on one side: the plain mean points there. Else its mean is taken off (Eq. 16).
        alike = mean.abs() == 1
        direction = torch.where(_wide(alike), total, total - _wide(mean) * plain)
        return direction / _wide(_norm(direction).clamp_min(1e-12))


def _norm(images: Tensor) -> Tensor:
    return images.flatten(1).norm(dim=1)


def _wide(values: Tensor) -> Tensor:
    """Return values (B,) in a shape that meets images (B, C, H, W)."""
    return values.view(-1, 1, 1, 1)
