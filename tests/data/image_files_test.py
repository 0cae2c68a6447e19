import struct
import zlib

import numpy as np
import PIL.Image
import pytest

from inres_tf.data import image_files
from inres_tf.errors import UserError

RAMP = np.linspace(0, 65535, 64).round().astype(np.uint16).reshape(8, 8)
GREY = np.rint(RAMP / 257)


def read(path):
    return image_files.read_image(path).pixels


def write_png(path, array, colour_type, depth, transparent=None):
    """Writes a PNG file of any number of bits, whose rows are whole bytes."""

    def chunk(name, content):
        check = struct.pack(">I", zlib.crc32(name + content))
        return struct.pack(">I", len(content)) + name + content + check

    rows = array.astype(">u2") if depth == 16 else array.astype(np.uint8)
    width = array.shape[1] * 8 // depth if depth < 8 else array.shape[1]
    header = struct.pack(">IIBBBBB", width, len(array), depth, colour_type, 0, 0, 0)
    content = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header)
    if transparent is not None:
        content += chunk(b"tRNS", struct.pack(f">{len(transparent)}H", *transparent))
    packed = zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))
    path.write_bytes(content + chunk(b"IDAT", packed) + chunk(b"IEND", b""))


def save(array, path, **options):
    PIL.Image.fromarray(array).save(path, **options)


def write_pgm(path, largest):
    values = np.rint(RAMP * (largest / 65535)).astype(">u2")
    path.write_bytes(b"P5 8 8 %d\n" % largest + values.tobytes())


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("grey.png", lambda path: save(RAMP, path)),
        ("grey.tif", lambda path: save(RAMP, path)),
        ("grey.jp2", lambda path: save(RAMP, path, irreversible=False)),
        ("grey.pgm", lambda path: write_pgm(path, 65535)),
        ("twelve.pgm", lambda path: write_pgm(path, 4095)),
        ("float.tif", lambda path: save((RAMP / 65535).astype(np.float32), path)),
        ("rgb.png", lambda path: write_png(path, np.stack([RAMP] * 3, -1), 2, 16)),
    ],
)
def test_more_than_eight_bits_are_scaled(name, write, tmp_path):
    write(tmp_path / name)
    found = read(tmp_path / name)
    assert found.shape == (8, 8, 3) and found.dtype == np.uint8
    np.testing.assert_allclose(found[..., 0], GREY, atol=1)
    np.testing.assert_array_equal(found[..., 0], found[..., 2])
    assert (found.min(), found.max()) == (0, 255)


@pytest.mark.parametrize("name", ["grey.png", "grey.tif"])
def test_sixteen_bits_are_rounded_to_the_nearest_level(name, tmp_path):
    values = np.arange(2**16, dtype=np.uint16).reshape(256, 256)
    save(values, tmp_path / name)
    expected = np.rint(values * (255 / 65535))
    np.testing.assert_array_equal(read(tmp_path / name)[..., 0], expected)


def edit_tags(path, changes):
    """Changes tags of a TIFF file, little-endian, each one short."""
    content = bytearray(path.read_bytes())
    (offset,) = struct.unpack_from("<I", content, 4)
    (number,) = struct.unpack_from("<H", content, offset)
    for start in range(offset + 2, offset + 2 + 12 * number, 12):
        (tag,) = struct.unpack_from("<H", content, start)
        if tag in changes:
            struct.pack_into("<HIHH", content, start + 2, 3, 1, changes[tag], 0)
    path.write_bytes(content)


def test_white_may_be_zero(tmp_path):
    save(RAMP, tmp_path / "a.tif")
    edit_tags(tmp_path / "a.tif", {262: 0})
    np.testing.assert_array_equal(read(tmp_path / "a.tif")[..., 0], 255 - GREY)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (RAMP.astype(np.int32), "32-bit integers have no known range"),
        (RAMP.astype(np.float32), "floats must be in .* values from 0 to 65535"),
        (np.full((8, 8), -0.5, np.float32), "values from -0.5"),
        (np.full((8, 8), np.nan, np.float32), "values from nan"),
    ],
    ids=["int32", "large", "negative", "nan"],
)
def test_values_of_unknown_range_are_refused(array, message, tmp_path):
    save(array, tmp_path / "a.tif")
    with pytest.raises(UserError, match=rf"a\.tif cannot be read .*{message}"):
        read(tmp_path / "a.tif")


def test_signed_integers_are_refused(tmp_path):
    save(np.zeros((8, 8), np.int32), tmp_path / "a.tif")  # has the tag of the sign
    edit_tags(tmp_path / "a.tif", {258: 16, 339: 2})
    save(np.zeros((8, 8), np.uint8), tmp_path / "b.tif", tiffinfo={339: 2})
    for name in ("a.tif", "b.tif"):
        with pytest.raises(UserError, match="signed and 32-bit integers"):
            read(tmp_path / name)


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_photographs_are_turned_upright(suffix, orientation, tmp_path):
    upright = np.zeros((16, 16, 3), np.uint8)
    upright[:8], upright[:8, :8] = 200, 90
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: np.rot90(upright, 1),
        7: upright[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(upright, -1),
    }[orientation]
    exif = PIL.Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"a.{suffix}"
    save(np.ascontiguousarray(stored), path, exif=exif)
    assert np.abs(read(path).astype(int) - upright).mean() < 4


def test_turned_photographs_swap_height_and_width(tmp_path):
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    save(np.zeros((4, 6, 3), np.uint8), tmp_path / "a.jpg", exif=exif)
    assert read(tmp_path / "a.jpg").shape == (6, 4, 3)


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp"])
def test_odd_exif_tags_do_not_matter(suffix, tmp_path):
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    path = tmp_path / f"a.{suffix}"
    save(np.zeros((4, 6, 3), np.uint8), path, exif=exif)
    odd = bytearray(exif.tobytes())
    # The width, a number, as text of one byte: Pillow reads it, and cannot write it.
    exif[0x0100] = 1
    odd = bytearray(exif.tobytes())
    entry = odd.index((0x0100).to_bytes(2, "little" if b"II" in odd else "big"))
    order = "little" if b"II" in odd else "big"
    odd[entry + 2 : entry + 4] = (2).to_bytes(2, order)
    save(np.zeros((4, 6, 3), np.uint8), path, exif=bytes(odd))
    assert read(path).shape == (6, 4, 3)


def test_damaged_exif_data_are_ignored(tmp_path):
    white = np.full((4, 6, 3), 255, np.uint8)
    save(white, tmp_path / "a.jpg", exif=b"Exif\0\0nonsense")
    np.testing.assert_array_equal(read(tmp_path / "a.jpg"), white)


def rgba(path, hidden):
    array = np.zeros((8, 8, 4), np.uint8)
    array[..., :3], array[2:6, 2:6] = hidden, (200, 50, 50, 255)
    save(array, path, **({"lossless": True} if path.suffix == ".webp" else {}))


def grey_alpha(path, hidden):
    array = np.zeros((8, 8, 2), np.uint8)
    array[..., 0], array[2:6, 2:6] = hidden[1], (50, 255)
    PIL.Image.fromarray(array, "LA").save(path)


def palette(path, hidden):
    image = PIL.Image.new("P", (8, 8), 0)
    image.putpalette([*hidden, 200, 50, 50] + [0] * 762)
    image.paste(1, (2, 2, 6, 6))
    image.save(path, transparency=0)


def key_of(depth, channels):
    """Function that writes a PNG file with a transparent colour."""

    def write(path, hidden):
        largest = 2**depth - 1
        colour = np.array(hidden if channels == 3 else hidden[1:2]) * largest // 255
        colour += 3 * (depth == 16)  # differs in its two bytes
        array = np.broadcast_to(colour, (8, 8, channels)).copy()
        array[2:6, 2:6] = 50 * largest // 255
        if depth == 4:  # two pixels a byte
            array = array[:, ::2] * 16 + array[:, 1::2]
        write_png(path, array, 0 if channels == 1 else 2, depth, colour)

    return write


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("rgba.png", rgba),
        ("rgba.webp", rgba),
        ("rgba.tif", rgba),
        ("grey_alpha.png", grey_alpha),
        ("palette.png", palette),
        ("palette.gif", palette),
        ("grey4.png", key_of(4, 1)),
        ("grey8.png", key_of(8, 1)),
        ("grey16.png", key_of(16, 1)),
        ("rgb8.png", key_of(8, 3)),
        ("rgb16.png", key_of(16, 3)),
    ],
)
def test_transparent_pixels_are_white_whatever_they_hide(name, write, tmp_path):
    pictures = []
    for hidden in ((0, 0, 0), (0, 200, 0)):
        write(tmp_path / name, hidden)
        picture = image_files.read_image(tmp_path / name)
        assert picture.transparent
        pictures.append(picture.pixels)
    np.testing.assert_array_equal(*pictures)
    assert (pictures[0][0] == 255).all()
    assert pictures[0][3, 3, 1] == (34 if name == "grey4.png" else 50)


@pytest.mark.parametrize(
    ("depth", "colour"), [(1, 0), (1, 1), (2, 0), (2, 1), (2, 2), (2, 3)]
)
def test_a_value_of_few_bits_may_be_transparent(depth, colour, tmp_path):
    row = {1: 0b01010101, 2: 0b00011011}[depth]  # counts up from 0
    write_png(tmp_path / "a.png", np.full((8, 1), row), 0, depth, [colour])
    picture = image_files.read_image(tmp_path / "a.png")
    expected = np.linspace(0, 255, 2**depth)
    expected[colour] = 255
    assert picture.transparent
    np.testing.assert_array_equal(picture.pixels[0, : 2**depth, 0], expected)


def test_half_transparent_pixels_are_mixed_with_white(tmp_path):
    save(np.full((2, 2, 4), (100, 0, 200, 128), np.uint8), tmp_path / "a.png")
    expected = 255 + (np.array([100, 0, 200]) - 255) * (128 / 255)
    np.testing.assert_allclose(read(tmp_path / "a.png")[0, 0], expected, atol=1)


@pytest.mark.parametrize("colour", [(100, 0, 200, 255), (100, 0, 200)])
def test_opaque_images_are_not_called_transparent(colour, tmp_path):
    save(np.full((2, 2, len(colour)), colour, np.uint8), tmp_path / "a.png")
    picture = image_files.read_image(tmp_path / "a.png")
    assert not picture.transparent and picture.pixels[0, 0].tolist() == [100, 0, 200]


def test_the_first_picture_of_an_animation_is_read(tmp_path):
    frames = [PIL.Image.new("L", (4, 4), value) for value in (10, 200)]
    for name in ("a.gif", "a.tif", "a.webp"):
        options = {"lossless": True} if name == "a.webp" else {}
        frames[0].save(
            tmp_path / name, save_all=True, append_images=frames[1:], **options
        )
        assert (read(tmp_path / name) == 10).all()


def test_formats_of_cameras_are_refused_by_name(tmp_path):
    for name in ("IMG_1.HEIC", "raw.dng"):
        (tmp_path / name).write_bytes(b"content")
        assert image_files.is_image(tmp_path / name)
        with pytest.raises(UserError, match=f"{name} .* convert it to PNG or JPEG"):
            read(tmp_path / name)


def test_images_are_known_by_their_name_or_their_content(tmp_path):
    (tmp_path / "damaged.JPG").write_bytes(b"")
    (tmp_path / "notes.txt").write_text("text")
    (tmp_path / "Thumbs.db").write_bytes(bytes.fromhex("d0cf11e0a1b11ae1"))
    for name in ("features.h5", "clip.mpg", "features"):
        (tmp_path / name).write_bytes(b"\x89HDF\r\n\x1a\n")
    save(np.zeros((4, 4, 3), np.uint8), tmp_path / "photo", format="png")
    names = [p.name for p in sorted(tmp_path.iterdir()) if image_files.is_image(p)]
    assert names == ["damaged.JPG", "photo"]


def test_pictures_above_the_limit_of_pillow(tmp_path, monkeypatch):
    """Which it takes for an attack on a server."""
    path = tmp_path / "large.png"
    PIL.Image.new("L", (40, 30), 7).save(path)
    monkeypatch.setattr(PIL.Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(PIL.Image.DecompressionBombError):
        PIL.Image.open(path)
    assert read(path).shape == (30, 40, 3)
    assert PIL.Image.MAX_IMAGE_PIXELS == 100
    threads = [image_files._own_limit() for _ in range(2)]
    for thread in threads:
        thread.__enter__()
    for thread, limit in zip(threads, (None, 100)):
        thread.__exit__(None, None, None)
        assert PIL.Image.MAX_IMAGE_PIXELS == limit
    monkeypatch.setattr(image_files, "_LARGEST", 1199)
    with pytest.raises(UserError, match="40x30 pixels, more than 1,199; make it small"):
        read(path)


def test_the_limit_is_above_15000_by_15000_pixels():
    assert 15000**2 <= image_files._LARGEST
