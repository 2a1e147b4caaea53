"""``python -m ifa_d2``, where the command ``ifa-d2`` is not on the path."""

from .commands import main

main()
