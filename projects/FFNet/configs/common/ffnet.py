"""What the recipes call of the project, whose modules lie beside the folder configs."""

import sys
from pathlib import Path

_project = str(Path(__file__).resolve().parents[2])
if _project not in sys.path:
    sys.path.insert(0, _project)

from ffnet_family import ffnet_model, put_head  # noqa: E402
