"""Image files, decoded to 8-bit RGB pixels as a viewer shows them."""

from __future__ import annotations

import contextlib
import functools
import io
import pathlib
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from inres_tf.data.images import content_key
from inres_tf.errors import UserError

if TYPE_CHECKING:
    import PIL.Image

_LARGEST = 2**28  # pixels of a picture, which then takes 0.75 GiB
BACKGROUND = (255, 255, 255)  # white, behind transparent pixels
# Pictures that Pillow does not read, or of which it reads a small preview only.
_UNSUPPORTED = frozenset(".heic .heif .jxl .svg .arw .cr2 .cr3 .dng .nef .orf".split())

# What Pillow knows by name only.
_STUBS = frozenset(("BUFR", "GRIB", "HDF5", "MPEG", "WMF"))


def is_image(path: pathlib.Path) -> bool:
    """Returns whether a file is meant to be an image, by its name or its content."""
    import PIL.Image

    if path.suffix.lower() in _suffixes():
        return True
    if not path.is_file():
        return False
    try:
        with PIL.Image.open(path) as image:
            return image.format not in _STUBS
    except Exception:  # whatever a decoder raises on other files
        return False


@functools.cache
def _suffixes():
    import PIL.Image

    names = PIL.Image.registered_extensions()
    formats = PIL.Image.OPEN.keys() - _STUBS
    return _UNSUPPORTED | {name for name in names if names[name] in formats}


@dataclass(frozen=True)
class Picture:
    """The picture in an image file.

    Attributes:
        pixels: uint8 RGB pixels, (height, width, 3).
        transparent: whether some of them are transparent in the file.
        key: number of the file's content, in [0, 2^64).
    """

    pixels: np.ndarray
    transparent: bool
    key: int


def read_image(path: pathlib.Path) -> Picture:
    """Reads an image file.

    Its first picture is turned as its EXIF data says, grey values of 16 bits and floats
    in [0, 1] are scaled to [0, 255], and transparent pixels are composited on white.

    Args:
        path: the file.

    Returns:
        The picture.

    Raises:
        UserError: if it cannot be read, or the range of its values is unknown.

    Example:
        >>> import pathlib
        >>> import PIL.Image
        >>> from inres_tf.data import image_files
        >>> PIL.Image.new("RGBA", (3, 2), (0, 255, 0, 0)).save("empty.png")
        >>> picture = image_files.read_image(pathlib.Path("empty.png"))
        >>> picture.pixels.shape, int(picture.pixels.min()), picture.transparent
        ((2, 3, 3), 255, True)
    """
    try:
        if path.suffix.lower() in _UNSUPPORTED:
            raise UserError("convert it to PNG or JPEG")
        if not path.is_file():
            raise UserError("it is missing or not a file")
        content = path.read_bytes()
        with _own_limit():
            image, transparent = _decode(content)
    except Exception as error:  # decoders raise many types on damaged files
        raise UserError(f"{path} cannot be read as an image: {error}") from error
    return Picture(np.asarray(image), transparent, content_key(content))


_lock = threading.Lock()
_readers, _limit = 0, None  # threads that read, and Pillow's limit without them


@contextlib.contextmanager
def _own_limit():
    """Lets Pillow read pictures larger than its limit, which is meant for servers."""
    import PIL.Image

    global _readers, _limit
    with _lock:
        if not _readers:
            _limit, PIL.Image.MAX_IMAGE_PIXELS = PIL.Image.MAX_IMAGE_PIXELS, None
        _readers += 1
    try:
        yield
    finally:
        with _lock:
            _readers -= 1
            if not _readers:  # the last of several threads
                PIL.Image.MAX_IMAGE_PIXELS = _limit


def _decode(content: bytes) -> tuple[PIL.Image.Image, bool]:
    """Returns an RGB image, and whether some of its pixels are transparent."""
    import PIL.Image

    try:
        image = PIL.Image.open(io.BytesIO(content))
    except PIL.UnidentifiedImageError as error:
        raise UserError("its format is unknown") from error
    width, height = image.size
    if width * height > _LARGEST:
        raise UserError(
            f"it has {width}x{height} pixels, more than {_LARGEST:,}; make it smaller"
        )
    with image:
        image.load()
        _turn(image)
        image = _with_alpha(_to_eight_bits(image), image, content)
        if not image.has_transparency_data:
            return image.convert("RGB"), False
        image = image.convert("RGBA")
        white = PIL.Image.new("RGBA", image.size, BACKGROUND)
        transparent = image.getextrema()[3][0] < 255
        return PIL.Image.alpha_composite(white, image).convert("RGB"), transparent


def _turn(image):
    """Applies the orientation in the EXIF data, if these can be read."""
    import PIL.ImageOps

    try:
        image.getexif()
    except Exception:  # damaged EXIF data raise many types; viewers ignore them
        return
    # Pillow would write all tags into them again, and refuse odd ones.
    for name in ("exif", "Raw profile type exif"):
        image.info.pop(name, None)
    PIL.ImageOps.exif_transpose(image, in_place=True)


def _to_eight_bits(image):
    """Scales the full range of the values of a grey image linearly to [0, 255]."""
    import PIL.Image

    tags = getattr(image, "tag_v2", {})  # of TIFF files
    bits, is_signed = tags.get(258, (16,))[0], 2 in tags.get(339, ())
    is_grey = image.mode.startswith("I")
    # Mode I is of 32 bits, but grey PNG (until Pillow 10) and PGM fill 16 of them.
    formats = ("PNG", "PPM") + (("TIFF", "JPEG2000") if image.mode != "I" else ())
    if image.mode == "F":
        values, largest = np.asarray(image), 1.0
        if not (0 <= values.min() and values.max() <= 1):
            raise UserError(
                "floats must be in [0, 1], from black to white; it holds values from "
                f"{values.min():g} to {values.max():g}"
            )
    elif is_signed or (is_grey and image.format not in formats):
        raise UserError(
            "signed and 32-bit integers have no known range; convert it to 8 or 16 bits"
        )
    elif is_grey:
        values, largest = np.asarray(image), 2.0**bits - 1
        if tags.get(262) == 0:  # white is zero
            values = largest - values
    else:
        return image
    return PIL.Image.fromarray(np.rint(values * (255 / largest)).astype(np.uint8))


def _with_alpha(eight_bits, image, content):
    """Gives pixels of the transparent colour of a PNG file, if it has one, alpha 0.

    PNG files name this colour in their own number of bits, which Pillow ignores.
    """
    import PIL.Image

    key = image.info.get("transparency")
    if key is None or image.format != "PNG" or image.mode == "P":
        return eight_bits
    bits, colours = content[24], np.asarray(image.convert("RGB"))  # IHDR's bit depth
    if image.mode.startswith("I"):
        colours = np.asarray(image)[..., None]
    elif bits == 16:
        key = np.asarray(key) >> 8
    elif bits > 1:  # Pillow scales those of one bit
        key = np.asarray(key) * (255 // (2**bits - 1))
    alpha = np.where((colours == key).all(-1), 0, 255).astype(np.uint8)
    result = eight_bits.convert("RGBA")
    result.putalpha(PIL.Image.fromarray(alpha))
    return result
