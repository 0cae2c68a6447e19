"""Parts of a set of images that fit into memory as float32 pixels."""

from collections.abc import Iterator

from inres_tf.data.images import Images

# Bytes of float32 pixels in one call of an attack, which packs the images that are
# still correct into full batches.
_BYTES_PER_CALL = 2**28


def parts(data: Images, batch_size: int) -> Iterator[tuple[int, Images]]:
    """Yields the index of the first image of each part, and the part.

    Args:
        data: the images.
        batch_size: the least number of images in a part.
    """
    size = max(batch_size, _BYTES_PER_CALL // (4 * data.images[0].size))
    for start in range(0, len(data), size):
        yield start, data.take(slice(start, start + size))
