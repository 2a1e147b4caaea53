"""Errors that a user can mend, as one sentence."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

_logger = logging.getLogger(__name__)
_TRACEBACK = "Traceback (most recent call last)"


def error_sentence(error: BaseException) -> str:
    """Text of an error; of one in another process, whose text is a traceback, its last line."""
    text = str(error)
    if _TRACEBACK not in text:
        return text
    return text.rstrip().splitlines()[-1].partition(": ")[2]


@contextmanager
def plain_worker_errors() -> Iterator[None]:
    """Raise an error of a data loader's worker with its own sentence as text.

    torch puts the worker's traceback into the text. That goes to the log's file, once.

    Raises:
        ValueError, OSError: what the worker raised.
    """
    try:
        yield
    except (ValueError, OSError) as error:
        if _TRACEBACK not in str(error):
            raise
        _logger.debug(str(error))
        raise type(error)(error_sentence(error)) from None
