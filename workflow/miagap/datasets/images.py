"""Decoding and resizing images with Pillow.

Grey images give one channel and colour images three; where a dataset has both, the grey
ones are repeated into three channels. Alpha is dropped and palettes are resolved; EXIF
orientation is ignored, as torchvision's readers do. 16-bit and float images are refused,
since Pillow would clip them.

Resizing is Pillow's bilinear filter, which widens its support when it shrinks an image and
so is antialiased. The result is square whatever the shape before.
"""

import io
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from miagap.errors import InputError

Encoded = tuple[str, bytes | Path]
_GREY_MODES = ("1", "L", "LA", "La")
_DEEP_MODES = ("I", "F", "I;16", "I;16L", "I;16B", "I;16N")


def resize_images(images: NDArray[np.uint8], size: int | None) -> NDArray[np.uint8]:
    """Resize images (n, H, W, C) to (n, size, size, C), antialiased; None leaves them alone."""
    n, height, width, channels = images.shape
    if size is None or (height, width) == (size, size):
        return images
    resized = np.empty((n, size, size, channels), np.uint8)
    for row, image in enumerate(images):
        picture = Image.fromarray(image[..., 0] if channels == 1 else image)
        resized[row] = np.asarray(_resize(picture, size)).reshape(size, size, channels)
    return resized


def decode_images(encoded: Iterable[Encoded], where: str, size: int | None) -> NDArray[np.uint8]:
    """Decode images, given as (name for messages, bytes or path), to uint8 (n, H, W, C).

    Raises:
        InputError: an image cannot be decoded, or sizes differ and ``size`` is None.
    """
    decoded: list[NDArray[np.uint8]] = []
    first = ""
    # No threads: they wait for Python's lock, and take up to twice as long on 32x32 images.
    for name, data in encoded:
        image = _decode(name, data, size)
        first = first or name
        if decoded and image.shape[:2] != decoded[0].shape[:2]:
            raise InputError(
                f"{where}: images differ in size ({first} is {_shape(decoded[0].shape)}, {name} "
                f"is {_shape(image.shape)}); set `dataset.size` to resize all of them"
            )
        decoded.append(image)
    return _stack(decoded)


def _shape(shape: Sequence[int]) -> str:
    return f"{shape[1]}x{shape[0]}"


def _stack(decoded: list[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    channels = max(image.shape[2] for image in decoded)
    height, width = decoded[0].shape[:2]
    images = np.empty((len(decoded), height, width, channels), np.uint8)
    for row, image in enumerate(decoded):
        images[row] = image
    return images


def _resize(picture: Image.Image, size: int) -> Image.Image:
    return picture.resize((size, size), Image.Resampling.BILINEAR)


def _decode(name: str, data: bytes | Path, size: int | None) -> NDArray[np.uint8]:
    try:
        with Image.open(io.BytesIO(data) if isinstance(data, bytes) else data) as picture:
            mode = picture.mode
            if mode not in _DEEP_MODES:
                wanted = "L" if mode in _GREY_MODES else "RGB"
                picture.load()
                plain = picture if mode == wanted else picture.convert(wanted)
                pixels = np.asarray(plain if size is None else _resize(plain, size))
    # Pillow's readers raise whatever their parsing meets (SyntaxError, struct.error, zlib.error).
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        reason = "unknown format" if isinstance(error, UnidentifiedImageError) else reason
        raise InputError(
            f"{name}: image cannot be decoded ({reason}); replace or remove it"
        ) from error
    if mode in _DEEP_MODES:
        raise InputError(f"{name}: image has more than 8 bits ({mode}); convert it to 8 bits")
    return pixels.reshape(*pixels.shape[:2], -1)
