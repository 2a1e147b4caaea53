"""What ``tools/benchmark.py`` measures: one module a command, each with a ``run_*`` function that
returns what goes into its JSON file, and a ``*_tables`` function that writes it as tables.
"""

from .growth import growth_tables, plot_growth, run_growth
from .head import head_tables, run_head
from .peers import peers_tables, run_peers

__all__ = [
    "growth_tables",
    "head_tables",
    "peers_tables",
    "plot_growth",
    "run_growth",
    "run_head",
    "run_peers",
]
