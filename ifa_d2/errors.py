"""Errors that a user can mend, as one sentence."""

import logging
import os
import signal
import sys
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


@contextmanager
def errors_in_one_line(*others: type[Exception]) -> Iterator[None]:
    """End the command with status 1 and one line for what a user can mend.

    Args:
        others: errors to treat so besides ValueError and OSError, which mean a wrong value, and a
            file that is not there or cannot be read or written. An interrupt is a line too, with
            its own text if it has one, and the status that shells give it.
    """
    try:
        yield
    except KeyboardInterrupt as error:
        said = f"interrupted: {error}" if str(error) else "interrupted"
        print(f"{os.path.basename(sys.argv[0])}: {said}", file=sys.stderr)
        sys.exit(128 + signal.SIGINT)
    except (ValueError, OSError, *others) as error:
        sys.exit(f"{os.path.basename(sys.argv[0])}: error: {error_sentence(error)}")
