"""Operations on pixel values, batched: each equals torchvision's on every single image.

All take and return uint8 (n, P, C), P = H * W pixels, except where noted.
"""

import torch
from torch import Tensor


def blend(first: Tensor, second: Tensor, ratio: Tensor, rest: Tensor) -> Tensor:
    """Return ratio * first + rest * second, clamped and truncated to uint8.

    ``ratio`` and ``rest`` (1 - ratio, taken in float64) are float32 and broadcast; the
    products are rounded one by one, as in torchvision's ``_blend``.
    """
    mixed = (ratio * first).add_(rest * second)
    return mixed.clamp_(0, 255).to(torch.uint8)


def gray(pixels: Tensor) -> Tensor:
    """Return the luma of ``pixels``: uint8 (n, P, 1)."""
    if pixels.shape[2] == 1:
        return pixels
    red, green, blue = pixels.unbind(2)
    return (0.2989 * red + 0.587 * green + 0.114 * blue).to(torch.uint8)[:, :, None]


def color(pixels: Tensor, ratio: Tensor, rest: Tensor) -> Tensor:
    """Blend with the gray image; one-channel images stay as they are."""
    if pixels.shape[2] == 1:
        return pixels
    return blend(pixels, gray(pixels), ratio, rest)


def contrast(pixels: Tensor, ratio: Tensor, rest: Tensor) -> Tensor:
    """Blend with the mean of the gray image.

    The sum is exact in float32 up to 65,793 pixels, so its order does not matter.
    """
    mean = gray(pixels).sum(dim=(1, 2), dtype=torch.float32) / pixels.shape[1]
    return blend(pixels, mean[:, None, None], ratio, rest)


def sharpness(pixels: Tensor, ratio: Tensor, rest: Tensor, width: int) -> Tensor:
    """Blend with the blurred image: kernel 1 1 1, 1 5 1, 1 1 1 over 13; borders are not blurred.

    The weighted sum is taken in integers. A sum over 13 never lies nearer than 1/26 to
    the middle between two integers, so rounding gives torchvision's value for certain.
    """
    count, size, channels = pixels.shape
    height = size // width
    if height <= 2 or width <= 2:
        return pixels
    image = pixels.view(count, height, width, channels)
    wide = image.to(torch.int16)
    lines = wide[:, :-2] + wide[:, 1:-1] + wide[:, 2:]
    total = lines[:, :, :-2] + lines[:, :, 1:-1] + lines[:, :, 2:]
    total.add_(wide[:, 1:-1, 1:-1], alpha=4)
    blurred = image.clone()
    blurred[:, 1:-1, 1:-1] = (total * (1 / 13)).round_().to(torch.uint8)
    return blend(pixels, blurred.view_as(pixels), ratio, rest)


def autocontrast(pixels: Tensor) -> Tensor:
    """Stretch each channel of each image to 0..255; a channel of one value stays as it is."""
    low, high = (bound.float()[:, None] for bound in _bounds(pixels))
    flat = low == high
    scale = 255 / (high - low)
    low.masked_fill_(flat, 0)
    scale.masked_fill_(flat, 1)
    return (pixels - low).mul_(scale).clamp_(0, 255).to(torch.uint8)


def _bounds(pixels: Tensor) -> tuple[Tensor, Tensor]:
    """Return least and largest value of each channel: uint8 (n, C) each."""
    planes = pixels.transpose(1, 2).contiguous()
    return planes.amin(2), planes.amax(2)


def equalize(pixels: Tensor) -> Tensor:
    """Equalise the histogram of each channel of each image.

    float32 divides whole numbers below 2**24 without crossing the next integer, so the
    floors are those of integer division.
    """
    count, size, channels = pixels.shape
    if size - 1 < 255:  # the step below is 0 whatever the image: torchvision returns it
        return pixels
    planes = pixels.transpose(1, 2).reshape(count * channels, size).long()
    histogram = torch.zeros((count * channels, 256), device=pixels.device)
    histogram.scatter_add_(1, planes, torch.ones((), device=pixels.device).expand_as(planes))
    # Pixels below the brightest value that occurs, per 255 levels.
    brightest = histogram.gather(1, planes.amax(1, keepdim=True))
    step = ((size - brightest) / 255).floor_()
    below = histogram.cumsum(1).sub_(histogram)
    table = ((below + (step / 2).floor()) / step).floor_().clamp_(0, 255)
    table = torch.where(step == 0, torch.arange(256.0, device=pixels.device), table)
    table[:, 0].masked_fill_(step[:, 0] != 0, 0)
    equalized = table.to(torch.uint8).gather(1, planes)
    return equalized.view(count, channels, size).transpose(1, 2)


def look_up(pixels: Tensor, tables: Tensor) -> Tensor:
    """Replace each value by its entry in the image's table, uint8 (n, 256)."""
    values = pixels.reshape(pixels.shape[0], -1).long()
    return tables.gather(1, values).view(pixels.shape)


def invert_table() -> Tensor:
    """Return 255 - v for v in 0..255, uint8."""
    return 255 - _values()


def posterize_table(bits: int) -> Tensor:
    """Return v with its lowest 8 - ``bits`` bits cleared, uint8 (256,)."""
    return _values() & (256 - 2 ** (8 - bits))


def solarize_table(threshold: float) -> Tensor:
    """Return v inverted where it reaches ``threshold``, uint8 (256,)."""
    values = _values()
    return torch.where(values >= threshold, 255 - values, values)


def brightness_table(ratio: float) -> Tensor:
    """Return v blended with black, uint8 (256,)."""
    values = _values()
    black = torch.zeros_like(values)
    return blend(values, black, torch.tensor(ratio), torch.tensor(1.0 - ratio))


def _values() -> Tensor:
    return torch.arange(256, dtype=torch.uint8)
