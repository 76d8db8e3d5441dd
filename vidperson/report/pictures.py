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
