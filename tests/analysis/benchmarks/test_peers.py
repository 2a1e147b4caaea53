"""The peers are what they are said to be, and are counted and compared alike."""

import pytest
import torch
from detectron2.modeling import FPN
from torch import nn

from ifa_d2.analysis.benchmarks import run_peers
from ifa_d2.analysis.benchmarks.peers import BUILDERS, NUM_CLASSES

SIZE = (64, 96)


@pytest.fixture(scope="module")
def models() -> dict[str, nn.Module]:
    return {name: build() for name, build in BUILDERS.items()}


@pytest.fixture(scope="module")
def rows() -> dict[tuple[str, str], dict]:
    cases = [(SIZE, "forward"), (SIZE, "train")]
    result = run_peers(cases=cases, repeats=1, device="cpu")
    return {(row["model"], row["pass"]): row for row in result["rows"]}


def test_all_have_the_same_resnet(models: dict[str, nn.Module]) -> None:
    shapes = []
    for model in models.values():
        backbone = model.backbone
        resnet = backbone.bottom_up if isinstance(backbone, FPN) else backbone
        assert all(p.requires_grad for p in model.parameters())
        shapes.append({name: tuple(p.shape) for name, p in resnet.named_parameters()})
    assert all(shape == shapes[0] for shape in shapes)
    norms = {
        type(m) for model in models.values() for m in model.modules() if "Norm" in str(type(m))
    }
    assert norms == {nn.BatchNorm2d}


@torch.no_grad()
def test_all_answer_every_pixel(models: dict[str, nn.Module]) -> None:
    picture = {"image": torch.randint(256, (3, *SIZE), dtype=torch.uint8)}
    for model in models.values():
        logits = model.eval()([picture])[0]["sem_seg"]
        assert logits.shape == (NUM_CLASSES, *SIZE)
        assert logits.isfinite().all()


def test_ratios_are_those_of_the_figures(rows: dict) -> None:
    assert {name for name, _ in rows} == set(BUILDERS)
    for (_, name), row in rows.items():
        reference = rows["IFA", name]
        assert row["input"] == list(SIZE)
        for ratio, figure in (("time", "seconds"), ("memory", "mib"), ("macs", "macs")):
            assert row[f"{ratio}_ratio"] == pytest.approx(row[figure] / reference[figure])


def test_training_costs_three_forward_passes(rows: dict) -> None:
    """Gradients of operands and of weights, but none of the picture."""
    queries = SIZE[0] // 2 * (SIZE[1] // 2)
    picture = queries * 9 * 3 * 64
    for name in ("SemSegFPNHead", "DeepLabV3PlusHead"):
        assert rows[name, "train"]["macs"] == 3 * rows[name, "forward"]["macs"] - picture


def test_training_memory_holds_the_gradients(rows: dict) -> None:
    for name in BUILDERS:
        row = rows[name, "train"]
        assert row["mib"] * 2**20 > 4 * row["params"]
