"""The command ``ifa-d2`` as ``python -m ifa_d2``, where it is not on the path."""

from .commands import main

main()
