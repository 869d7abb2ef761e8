"""Pictures: decode, resize, grey or colour, scale. The same code in training and on the device."""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from edge.errors import BadData, RuntimeMissing

Layout = Literal["HWC", "CHW", "HW"]
SUFFIXES = (".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
# ITU-R BT.601, section 2.5.1: luma of R, G, B
LUMA = np.array([0.299, 0.587, 0.114], np.float32)


@dataclass(frozen=True)
class ImageInput:
    """A decoded picture, uint8 [H, W] or [H, W, C] (grey, RGB or RGBA), to one input of a model.

    The picture is stretched to `height` x `width`, made grey or RGB, and then x * scale + offset in float32,
    or rounded to raw bytes where `dtype` is "uint8". `layout` is the order of the axes that the model takes.
    """

    height: int
    width: int
    channels: Literal[1, 3]
    scale: float = 1 / 255
    offset: float = 0.0
    layout: Layout = "HWC"
    dtype: Literal["float32", "uint8"] = "float32"
    kind: Literal["image"] = "image"

    def __post_init__(self) -> None:
        if self.height < 1 or self.width < 1 or self.channels not in {1, 3}:
            raise BadData(f"a picture of {self.height} x {self.width} x {self.channels}: sizes >= 1, channels 1 or 3")
        if self.layout not in {"HWC", "CHW", "HW"} or (self.layout == "HW" and self.channels != 1):
            raise BadData(f"layout {self.layout!r} does not hold {self.channels} channels")
        if self.dtype not in {"float32", "uint8"} or self.kind != "image":
            raise BadData(f"a picture input of kind {self.kind!r} and dtype {self.dtype!r}")

    def __call__(self, raw: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """[H, W] or [H, W, 1 | 3 | 4] uint8 to [height, width, channels] (or as `layout` says).

        Raises:
            BadData: `raw` is not a picture.

        """
        if raw.dtype != np.uint8 or raw.ndim not in {2, 3} or (raw.ndim == 3 and raw.shape[2] not in {1, 3, 4}):
            raise BadData(
                f"not a picture: {raw.dtype} {list(raw.shape)}", "a picture is uint8 [H, W] or [H, W, 1, 3 or 4]"
            )
        if raw.size == 0:
            raise BadData(f"an empty picture: {list(raw.shape)}")
        picture = raw[:, :, None] if raw.ndim == 2 else raw[:, :, :3]
        if picture.shape[2] > self.channels:
            picture = picture @ LUMA[:, None]  # before the resizing, which then has a third of the work
        values = resize(picture, self.height, self.width)
        if values.shape[2] < self.channels:
            values = np.repeat(values, self.channels, axis=2)
        result: npt.NDArray[Any]
        if self.dtype == "uint8":
            result = np.clip(np.rint(values), 0, 255).astype(np.uint8)
        else:
            result = values * np.float32(self.scale) + np.float32(self.offset)
        if self.layout == "HW":
            return result[:, :, 0]
        return np.ascontiguousarray(result if self.layout == "HWC" else result.transpose(2, 0, 1))


def resize(picture: npt.NDArray[Any], height: int, width: int) -> npt.NDArray[np.float32]:
    """[H, W, C] to [height, width, C] float32, two matrix products: rows, then columns.

    The triangle filter of `triangle_weights`: bilinear when enlarging, and widened by the ratio when reducing,
    so that nothing aliases.
    """
    values = picture.astype(np.float32)
    rows, columns, channels = values.shape
    if rows != height:
        values = (triangle_weights(rows, height) @ values.reshape(rows, -1)).reshape(height, columns, channels)
    if columns != width:
        across = values.transpose(1, 0, 2).reshape(columns, -1)
        values = (triangle_weights(columns, width) @ across).reshape(width, height, channels).transpose(1, 0, 2)
    return values


@lru_cache(maxsize=64)
def triangle_weights(size: int, new_size: int) -> npt.NDArray[np.float32]:
    """The matrix [new_size, size] that resamples one axis; each row sums to 1.

    Pixel centres stand at half integers: w_ij = max(0, 1 - |j + 1/2 - c_i| / s), with c_i = (i + 1/2) r,
    r = size / new_size and s = max(1, r). Wolberg, "Digital Image Warping", 1990, section 5.4.2 (triangle
    filter) and 5.6 (widened by r when reducing).
    """
    ratio = size / new_size
    centres = (np.arange(new_size) + 0.5) * ratio
    distance = np.abs(np.arange(size)[None, :] + 0.5 - centres[:, None])
    weights = np.maximum(0.0, 1.0 - distance / max(1.0, ratio))
    return np.asarray(weights / weights.sum(axis=1, keepdims=True), np.float32)


def read_image(path: Path) -> npt.NDArray[np.uint8]:
    """The picture in a file: uint8 [H, W] where it is grey, else RGB [H, W, 3].

    Raises:
        BadData: the file is missing or cannot be decoded.
        RuntimeMissing: it is neither .pgm nor .ppm and OpenCV is not installed.

    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise BadData(f"cannot read {path}: {error.strerror}") from error
    return decode_image(content, str(path))


def decode_image(content: bytes, name: str) -> npt.NDArray[np.uint8]:
    """As `read_image`, of the bytes of a file called `name`."""
    if content[:2] in {b"P5", b"P6"}:
        return _decode_pnm(content, name)
    try:
        import cv2
    except ImportError as error:
        raise RuntimeMissing(
            f"{name}: OpenCV is needed to decode it", "pip install 'edgetool[apps]', or convert it to .pgm or .ppm"
        ) from error
    try:
        picture = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_ANYCOLOR) if content else None
    except cv2.error:
        picture = None
    # libjpeg fills the missing rest of a cut picture with grey and only prints a warning
    cut = content[:2] == b"\xff\xd8" and b"\xff\xd9" not in content[-4096:]
    if picture is None or cut:
        raise BadData(f"{name} cannot be decoded as a picture", "it is damaged, cut short or of another kind")
    return np.asarray(picture if picture.ndim == 2 else picture[:, :, ::-1], np.uint8)


def _decode_pnm(content: bytes, name: str) -> npt.NDArray[np.uint8]:
    """Binary PGM (P5) and PPM (P6) of 8 bits: netpbm's pgm(5) and ppm(5)."""
    fields: list[int] = []
    position = 2
    while len(fields) < 3:
        while content[position : position + 1].isspace() or content[position : position + 1] == b"#":
            if content[position : position + 1] == b"#":
                position = content.find(b"\n", position) if b"\n" in content[position:] else len(content)
            else:
                position += 1
        start = position
        while content[position : position + 1].isdigit() and position - start < 9:
            position += 1
        if position == start:
            raise BadData(f"{name}: its header is damaged", "expected P5 or P6, width, height, 255")
        fields.append(int(content[start:position]))
    width, height, most = fields
    channels = 1 if content[:2] == b"P5" else 3
    if most != 255 or width < 1 or height < 1:
        raise BadData(f"{name}: {width} x {height} with values up to {most}", "8-bit pictures (255) can be read")
    needed, found = width * height * channels, len(content) - position - 1
    if found < needed:
        raise BadData(f"{name} is cut short: {found} of {needed} bytes of pixels")
    pixels = np.frombuffer(content, np.uint8, needed, position + 1)
    return pixels.reshape((height, width) if channels == 1 else (height, width, 3))
