"""How large an image and how long a video may say that it is: a few bytes can mean gigabytes and weeks."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from vidperson.errors import MediaError

_LONGEST_SIDE = 32_766  # pixels; faces cannot be cut out of longer images


@dataclass(frozen=True)
class Limits:
    """What is refused, by its headers, before memory is taken for it.

    max_pixels: width times height of a frame or image, with square pixels.
    max_duration_s: seconds that a video lasts.
    """

    max_pixels: int = 100_000_000
    max_duration_s: float = 86_400.0

    def check_size(self, width: int, height: int, aspect: Fraction = Fraction(1)) -> None:
        """Raises MediaError for too many pixels, or too long a side. aspect: width of a pixel over its height."""
        stretch = aspect if aspect > 1 else 1 / aspect
        if width * height * stretch > self.max_pixels:
            stretched = "" if aspect == 1 else f", with pixels of {aspect.numerator}:{aspect.denominator},"
            raise MediaError(f"{width} x {height} pixels{stretched} are more than max_pixels {self.max_pixels}")
        if max(width, height) > _LONGEST_SIDE or (width if aspect > 1 else height) * stretch > _LONGEST_SIDE:
            raise MediaError(f"{width} x {height} pixels: a side is longer than {_LONGEST_SIDE}")

    def check_duration(self, seconds: float, why: str = "as its header says") -> None:
        """Raises MediaError for too long a video. why: how its duration is known."""
        if seconds > self.max_duration_s:
            raise MediaError(f"{seconds:.0f} s, {why}, are more than max_duration_s {self.max_duration_s:g}")


USUAL_LIMITS = Limits()
