"""Limits of the page, apart from what serves it: a help text waits for no library."""

from dataclasses import dataclass

_MOST = 2**20  # that any limit may be
MOST_MEGAPIXELS = 170  # above which Pillow opens no picture


@dataclass(frozen=True)
class Limits:
    """Limits of the page.

    Args:
        megabytes: of a file, 2**20 bytes each.
        megapixels: of a picture, 2**20 pixels each.
        samples: of one answer, in 2**20.
        pictures: whose fields are held; the one that was used longest ago makes room.
        uploads: files that are received and looked at, at a time; so ``uploads * megabytes`` are
            held at most.
        requests: answered at a time, uploads among them.
        seconds: that a client may take to send a request's head, to send a file, and to read an
            answer.

    Raises:
        ValueError: a limit that is not above 0 or above 2**20, fewer samples than pixels, or more
            pixels than Pillow opens.
    """

    megabytes: float = 20.0
    megapixels: float = 16.0
    samples: float = 16.0
    pictures: int = 8
    uploads: int = 8
    requests: int = 32
    seconds: float = 30.0

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not 0 < value <= _MOST:
                raise ValueError(f"{name} must be above 0 and at most {_MOST}, got {value}")
        if self.megapixels > MOST_MEGAPIXELS:
            raise ValueError(
                f"megapixels must be at most {MOST_MEGAPIXELS}, as Pillow opens no larger "
                f"pictures, got {self.megapixels:g}"
            )
        if self.samples < self.megapixels:
            raise ValueError(
                f"samples must be at least the {self.megapixels:g} of megapixels, got "
                f"{self.samples:g}: a picture's own pixels are decoded"
            )

    @property
    def max_bytes(self) -> int:
        """Of a file."""
        return int(self.megabytes * 2**20)

    @property
    def max_pixels(self) -> int:
        """Of a picture."""
        return int(self.megapixels * 2**20)

    @property
    def max_samples(self) -> int:
        """Of one answer."""
        return int(self.samples * 2**20)
