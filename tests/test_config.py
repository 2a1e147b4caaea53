"""What is added to a Detectron2 config."""

import torch
from detectron2.config import CfgNode, get_cfg

from ifa_d2 import add_ifa_config


def _leaves(node: CfgNode, prefix: str = "") -> dict[str, object]:
    out: dict[str, object] = {}
    for key, value in node.items():
        name = f"{prefix}{key}"
        out.update(_leaves(value, f"{name}.") if isinstance(value, CfgNode) else {name: value})
    return out


def test_no_default_of_detectron2_changes() -> None:
    before, cfg = _leaves(get_cfg()), get_cfg()
    add_ifa_config(cfg)
    after = _leaves(cfg)
    changed = {key for key, value in before.items() if after[key] != value}
    assert changed == (set() if torch.cuda.is_available() else {"MODEL.DEVICE"})
    assert "MODEL.IFA.ENCODING" in set(after) - set(before)
