"""Operations on pixel values, batched: each equals torchvision's on every single image.

Most operations replace each value of a channel by another, whatever its place: they are
tables (n, C, 256), made here for a batch at a time and looked up together. Images are
uint8 (n, P, C), P = H * W pixels.
"""

import torch
from torch import Tensor

from miagap.augment.layout import choose, to_mask, truncate

LEVELS = 256


def blend(first: Tensor, second: Tensor, ratio: Tensor, rest: Tensor) -> Tensor:
    """Return ratio * first + rest * second, clamped and truncated to uint8.

    ``ratio`` and ``rest`` (1 - ratio, taken in float64) are float32 and broadcast; the
    products are rounded one by one, as in torchvision's ``_blend``.
    """
    mixed = (ratio * first).add_(rest * second)
    return truncate(mixed.clamp_(0, 255))


def _gray(planes: Tensor) -> Tensor:
    """Return the luma of float32 ``planes`` (1 or 3, n, P) in whole numbers, float32 (n, P)."""
    if planes.shape[0] == 1:
        return planes[0]
    red, green, blue = planes
    return (0.2989 * red + 0.587 * green + 0.114 * blue).floor_()


def _planes(pixels: Tensor) -> Tensor:
    return pixels.permute(2, 0, 1).contiguous().float()


def color(pixels: Tensor, ratio: Tensor, rest: Tensor) -> Tensor:
    """Blend with the gray image; one-channel images stay as they are. Factors: (n, 1)."""
    if pixels.shape[2] == 1:
        return pixels
    planes = _planes(pixels)
    return blend(planes, _gray(planes), ratio, rest).permute(1, 2, 0).contiguous()


def sharpness(pixels: Tensor, ratio: Tensor, rest: Tensor, width: int) -> Tensor:
    """Blend with the blurred image: kernel 1 1 1, 1 5 1, 1 1 1 over 13; borders are not blurred.

    The weighted sum is a whole number, exact in float32. A thirteenth of it never lies
    nearer than 1/26 to the middle between two integers, so rounding gives torchvision's
    value for certain. Factors: (n, 1).
    """
    count, size, channels = pixels.shape
    height = size // width
    if height <= 2 or width <= 2:
        return pixels
    line = width * channels
    image = pixels.view(count, -1).float()
    # Neighbours by distance in memory: long vectors, wrong only in the border columns.
    total = image[:, : -2 * line] + image[:, line:-line] + image[:, 2 * line :]
    total = total[:, : -2 * channels] + total[:, channels:-channels] + total[:, 2 * channels :]
    inner = slice(line + channels, size * channels - line - channels)
    total.add_(image[:, inner], alpha=4).mul_(1 / 13).round_()
    blurred = image.clone()
    blurred[:, inner] = total
    sharpened = blend(image, blurred, ratio, rest)
    # A border pixel is blended with itself, which rounding may change.
    border = blend(image, image, ratio, rest)
    column = torch.arange(size * channels, device=pixels.device) % line
    mask = to_mask((column >= channels) & (column < line - channels))
    return choose(mask, sharpened, border).view_as(pixels)


def contrast_tables(pixels: Tensor, ratio: Tensor, rest: Tensor) -> Tensor:
    """Return tables that blend with the mean of the gray image. Factors: (n, 1).

    The sum is exact in float32 up to 65,793 pixels, so its order does not matter.
    """
    total = _gray(_planes(pixels)).sum(dim=1)
    # By a tensor: CUDA multiplies by the reciprocal of a scalar, which rounds otherwise.
    mean = total / torch.full_like(total, pixels.shape[1])
    values = torch.arange(LEVELS, device=pixels.device, dtype=torch.float32)
    tables = blend(values, mean[:, None], ratio, rest)
    return tables[:, None].expand(-1, pixels.shape[2], -1)


def value_keys(pixels: Tensor) -> Tensor:
    """Return each byte's entry in tables (n, C, 256): int32 (n, P * C)."""
    count, size, channels = pixels.shape
    device = pixels.device
    tables = torch.arange(count * channels, dtype=torch.int32, device=device) * LEVELS
    tables = tables.view(count, channels)
    keys = pixels.view(count, -1).to(torch.int32)
    return keys.add_(tables[0].repeat(size)).add_(tables[:, :1])


def look_up(keys: Tensor, tables: Tensor, pixels: Tensor) -> Tensor:
    """Return the entries of ``tables`` uint8 (n, C, 256) at ``keys``, shaped as ``pixels``."""
    return tables.reshape(-1).index_select(0, keys.view(-1)).view_as(pixels)


def histograms(keys: Tensor, channels: int) -> Tensor:
    """Return how often each value occurs in each channel: int32 (n, C, 256)."""
    count = keys.shape[0]
    length = count * channels * LEVELS
    flat = keys.view(-1)
    if flat.device.type == "cpu":
        counts = torch.bincount(flat, minlength=length).to(torch.int32)
    else:  # bincount waits for the device
        counts = torch.zeros(length, dtype=torch.int32, device=flat.device)
        counts.scatter_add_(0, flat.long(), torch.ones_like(flat))
    return counts.view(count, channels, LEVELS)


def autocontrast_tables(histogram: Tensor) -> Tensor:
    """Return tables that stretch each channel to 0..255; channels of one value stay."""
    seen = histogram > 0
    values = torch.arange(LEVELS, device=histogram.device, dtype=torch.float32)
    high = (seen * values).amax(2, keepdim=True)
    low = 255 - (seen * (255 - values)).amax(2, keepdim=True)
    flat = low == high
    scale = torch.where(flat, 1.0, 255 / (high - low))
    stretched = (values - low.masked_fill_(flat, 0.0)).mul_(scale)
    return truncate(stretched.clamp_(0, 255))


def equalize_tables(histogram: Tensor, size: int) -> Tensor:
    """Return tables that equalise the histogram of each channel of images of ``size`` pixels.

    float32 divides whole numbers below 2**24 without crossing the next integer, so the
    floors are those of integer division.
    """
    upto = histogram.cumsum(2, dtype=torch.int32)
    # The brightest value's count is the last that makes the sum complete.
    brightest = (histogram * (upto == size)).amax(2, keepdim=True)
    step = torch.div(size - brightest, 255, rounding_mode="floor").float()
    none = step == 0
    below = (upto - histogram).float()
    tables = ((below + (step * 0.5).floor_()) / step.masked_fill(none, 1.0)).floor_()
    tables[..., :1] = 0.0
    values = torch.arange(LEVELS, device=histogram.device, dtype=torch.uint8)
    return choose(to_mask(none), values, truncate(tables.clamp_(0, 255)))


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
    return torch.arange(LEVELS, dtype=torch.uint8)
