"""Pictures made fit for the report."""

from __future__ import annotations

import io


def shrunken_jpeg(content: bytes, width: int, quality: int = 85) -> bytes:
    """A JPEG file, at most ``width`` pixels wide, of a JPEG or PNG file; raises OSError when it is damaged."""
    from PIL import Image as Picture

    stream = io.BytesIO()
    with Picture.open(io.BytesIO(content)) as picture:
        small = picture.convert("RGB")
        if small.width > width:
            height = max(1, round(small.height * width / small.width))
            small = small.resize((width, height), Picture.Resampling.LANCZOS)
        small.save(stream, "JPEG", quality=quality)
    return stream.getvalue()


def fitted_jpeg(content: bytes, shape: tuple[float, float], most: tuple[int, int], quality: int = 80) -> bytes:
    """A JPEG file of a JPEG or PNG file, in the ratio of ``shape`` and as large as ``most`` allows.

    shape: width and height of what the picture was made of, in any unit. most: width and height in pixels.
    Raises OSError when the file is damaged.
    """
    from PIL import Image as Picture

    scale = min(most[0] / shape[0], most[1] / shape[1])
    width, height = (max(1, round(scale * side)) for side in shape)
    stream = io.BytesIO()
    with Picture.open(io.BytesIO(content)) as picture:
        picture.convert("RGB").resize((width, height), Picture.Resampling.LANCZOS).save(stream, "JPEG", quality=quality)
    return stream.getvalue()


def narrow_jpeg(content: bytes, width: int) -> bytes:
    """As :func:`shrunken_jpeg`; a JPEG file that is narrow enough is returned as it is, with what is damaged in it."""
    from PIL import Image as Picture

    with Picture.open(io.BytesIO(content)) as picture:
        narrow = picture.format == "JPEG" and picture.width <= width
    return content if narrow else shrunken_jpeg(content, width)
