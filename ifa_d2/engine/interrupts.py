"""Ctrl-C in a training, which ends between two iterations."""

import logging
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_logger = logging.getLogger(__name__)


class Interrupts:
    """Keeps an interrupt back until the iteration under way is whole and can be saved.

    A second one ends the process at once, as any does outside of :meth:`held_back`.

    Attributes:
        pending: one was kept back.
    """

    def __init__(self) -> None:
        self.pending = False
        self._held_back = False

    @contextmanager
    def held_back(self) -> Iterator[None]:
        """Keep an interrupt back inside, as far as ``pending``; raise it at the end.

        Where Python does not handle interrupts itself, or on another thread, nothing changes.
        """
        handled = signal.getsignal(signal.SIGINT) is signal.default_int_handler
        if not handled or threading.current_thread() is not threading.main_thread():
            yield
            return
        signal.signal(signal.SIGINT, self._note)
        self._held_back = True
        try:
            yield
            self.check()
        finally:
            self._held_back = False
            signal.signal(signal.SIGINT, signal.default_int_handler)

    @contextmanager
    def let_through(self) -> Iterator[None]:
        """Let interrupts raise inside, where nothing is half done."""
        before, self._held_back = self._held_back, False
        try:
            self.check()
            yield
        finally:
            self._held_back = before

    def check(self) -> None:
        """Raise KeyboardInterrupt if one is pending."""
        if self.pending:
            raise KeyboardInterrupt

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.pending or not self._held_back:
            raise KeyboardInterrupt
        self.pending = True
        _logger.warning("Interrupted: saving after this iteration (again: ends at once)")
