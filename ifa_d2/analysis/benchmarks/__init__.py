"""Measurements of ``tools/benchmark.py``, one module a command.

Each has a ``run_*`` function that returns the content of the command's JSON file, and a
``*_tables`` function that formats it as tables.
"""

from .evaluator import evaluator_tables, run_evaluator
from .growth import growth_tables, plot_growth, run_growth
from .head import head_tables, run_head
from .panoptic import CASES as PANOPTIC_CASES
from .panoptic import panoptic_tables, run_panoptic
from .peers import peers_tables, run_peers
from .startup import run_startup, startup_tables
from .upsamplers import run_upsamplers, upsamplers_tables

__all__ = [
    "PANOPTIC_CASES",
    "evaluator_tables",
    "growth_tables",
    "head_tables",
    "panoptic_tables",
    "peers_tables",
    "plot_growth",
    "run_evaluator",
    "run_growth",
    "run_head",
    "run_panoptic",
    "run_peers",
    "run_startup",
    "run_upsamplers",
    "startup_tables",
    "upsamplers_tables",
]
