"""The data sets that the recipes name."""

import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from PIL import Image

from ifa_d2.data import SemSegMapper
from ifa_d2.data.builtin import CAMVID_CLASSES, CAMVID_VOID, register_all
from ifa_d2.data.palettes import voc_colors
from ifa_d2.data.shapes import CLASSES, SHAPES_COUNTS, SHAPES_SIZE
from ifa_d2.evaluation import SemSegEvaluator

# At least these shares of a split's scenes show the class.
SHOWN = {"wire": 0.6, "fence": 0.6, "tree": 0.8, "bicycle": 0.7}


def test_registering_again_changes_nothing():
    before = dict(DatasetCatalog)
    register_all()
    assert dict(DatasetCatalog) == before


@pytest.fixture
def camvid(tmp_path, monkeypatch):
    """One picture in CamVid's layout, half of it void; its label."""
    rng = np.random.default_rng(0)
    label = rng.integers(0, 11, (8, 10)).astype(np.uint8)
    label[:, 5:] = CAMVID_VOID
    for split in ("train", "val"):
        for kind, pixels in (
            ("images", rng.integers(0, 256, (8, 10, 3)).astype(np.uint8)),
            ("annotations", label),
        ):
            folder = tmp_path / "camvid" / kind / split
            folder.mkdir(parents=True)
            Image.fromarray(pixels).save(folder / "0001TP.png")
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    return label


def test_camvid_void_is_ignored_in_training_and_in_evaluation(camvid):
    (record,) = DatasetCatalog.get("camvid_val")
    sample = SemSegMapper(is_train=False)(record)
    expected = np.where(camvid == CAMVID_VOID, 255, camvid)
    np.testing.assert_array_equal(sample["sem_seg"], expected)

    evaluator = SemSegEvaluator("camvid_val", distributed=False)
    evaluator.reset()
    prediction = np.where(camvid == CAMVID_VOID, 3, camvid)  # road on all of the void
    logits = torch.nn.functional.one_hot(torch.from_numpy(prediction).long(), 11)
    evaluator.process([sample], [{"sem_seg": logits.permute(2, 0, 1).float()}])
    figures = evaluator.evaluate()["sem_seg"]
    assert figures["mIoU"] == pytest.approx(100)
    assert figures["pACC"] == pytest.approx(100)


def test_camvid_metadata():
    metadata = MetadataCatalog.get("camvid_train")
    assert metadata.stuff_classes == list(CAMVID_CLASSES)
    assert (len(CAMVID_CLASSES), metadata.ignore_label) == (11, 11)
    assert len({tuple(color) for color in metadata.stuff_colors}) == 11


def test_pascal_context_has_the_colours_of_pascal_voc():
    """By the published list of VOC's first classes, which Context's ids take in their own order."""
    known = [(0, 0, 0), (128, 0, 0), (0, 128, 0), (128, 128, 0), (0, 0, 128), (128, 0, 128)]
    known += [(0, 128, 128), (128, 128, 128), (64, 0, 0), (192, 0, 0), (64, 128, 0)]
    assert voc_colors(21)[:11] == tuple(known) and voc_colors(21)[20] == (0, 64, 128)
    assert len(set(voc_colors(256))) == 256
    with_background = MetadataCatalog.get("pascal_context_60_val").stuff_colors
    assert with_background == [list(color) for color in voc_colors(60)]
    assert MetadataCatalog.get("pascal_context_59_val").stuff_colors == with_background[1:]


def test_missing_camvid_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    with pytest.raises(FileNotFoundError, match=rf"{tmp_path}/camvid/.*set DETECTRON2_DATASETS"):
        DatasetCatalog.get("camvid_train")


def test_shapes_draw_themselves_and_show_every_class():
    mapper = SemSegMapper(is_train=False)
    for split, count in SHAPES_COUNTS.items():
        records = DatasetCatalog.get(f"shapes_{split}")
        assert len(records) == count
        sample = mapper(records[-1])
        assert sample["image"].shape == (3, *SHAPES_SIZE)
        assert sample["sem_seg"].shape == SHAPES_SIZE
        pixels = np.zeros((count, len(CLASSES)), int)
        for row, record in zip(pixels, records, strict=True):
            with Image.open(record["sem_seg_file_name"]) as label:
                row += np.bincount(np.asarray(label).ravel(), minlength=len(CLASSES))
        shown, share = (pixels > 0).mean(0), pixels.sum(0) / pixels.sum()
        for name, part, often in zip(CLASSES, share, shown, strict=True):
            assert often >= SHOWN.get(name, 0.95), name
            assert 0.005 <= part <= 0.30, name
