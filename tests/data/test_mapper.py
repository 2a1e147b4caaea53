"""From records to tensors."""

import numpy as np
import pytest
import torch
from detectron2.config import get_cfg
from detectron2.data import DatasetFromList, MapDataset
from detectron2.data import transforms as T
from detectron2.data.build import build_batch_data_loader
from detectron2.data.detection_utils import SizeMismatchError
from detectron2.data.samplers import TrainingSampler
from PIL import Image
from torch.utils.data import DataLoader

from ifa_d2 import add_ifa_config
from ifa_d2.data import SemSegMapper, build_sem_seg_augmentations


def _record(paths) -> dict:
    image, label = paths
    return {
        "file_name": str(image),
        "sem_seg_file_name": str(label),
        "num_classes": 3,
        "ignore_label": 11,
    }


def _train_mapper() -> SemSegMapper:
    augmentations = build_sem_seg_augmentations(short_edge=16, crop_size=(12, 20))
    return SemSegMapper(is_train=True, augmentations=augmentations)


def test_without_augmentations_the_files_come_as_they_are(write):
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (7, 9, 3)).astype(np.uint8)
    label = rng.integers(0, 3, (7, 9)).astype(np.uint8)
    label[2:4] = 11
    record = _record(write(image=image, label=label))
    before = dict(record)
    sample = SemSegMapper(is_train=False)(record)
    assert record == before
    assert (sample["image"].dtype, sample["sem_seg"].dtype) == (torch.uint8, torch.int64)
    np.testing.assert_array_equal(sample["image"].permute(1, 2, 0), image)
    np.testing.assert_array_equal(sample["sem_seg"], np.where(label == 11, 255, label))
    assert (sample["height"], sample["width"]) == (7, 9)
    reversed_sample = SemSegMapper(is_train=False, image_format="BGR")(record)
    assert torch.equal(reversed_sample["image"], sample["image"].flip(0))


def test_training_samples_have_the_crops_size_and_no_other_values(write):
    mapper, record = _train_mapper(), _record(write(size=(17, 31)))
    padded = 0
    for _ in range(50):
        sample = mapper(record)
        assert sample["image"].shape == (3, 12, 20)
        assert sample["sem_seg"].shape == (12, 20)
        values = set(sample["sem_seg"].unique().tolist())
        assert values <= {0, 1, 2, 255}
        padded += 255 in values
        assert (sample["image"].permute(1, 2, 0)[sample["sem_seg"] == 255] == 116).all()
    assert 0 < padded < 50


def test_labels_beyond_255_classes(write):
    label = np.arange(600, dtype=np.uint16).reshape(20, 30)
    label[0, 0] = 65535
    record = _record(write(size=(20, 30), label=label))
    record.update(num_classes=600, ignore_label=65535)
    with pytest.raises(ValueError, match="ignore_value 255 is one of the 600 classes"):
        SemSegMapper(is_train=False)(record)
    augmentations = build_sem_seg_augmentations(
        short_edge=60, scale_range=None, crop_size=(64, 100), flip="none", ignore_value=-1
    )
    mapper = SemSegMapper(is_train=True, augmentations=augmentations, ignore_value=-1)
    sem_seg = mapper(record)["sem_seg"].numpy()
    expected = np.where(label == 65535, -1, label.astype(int))
    np.testing.assert_array_equal(sem_seg[1:60:3, 1:90:3], expected)
    assert (sem_seg[60:] == -1).all()
    assert (sem_seg[:, 90:] == -1).all()


def test_what_a_rotation_shows_from_outside_is_no_class(write):
    """Of a picture of class 1 alone: neither the label nor a point has class 0."""
    record = _record(write(size=(40, 60), label=np.ones((40, 60), np.uint8)))
    rotation = T.RandomRotation(angle=[35, 35], expand=False)
    augmentations = build_sem_seg_augmentations(
        short_edge=40, scale_range=None, crop_size=(36, 50), before_crop=[rotation]
    )
    for value in (255, 77):
        augmentations[-2].seg_pad_value = value
        mapper = SemSegMapper(
            is_train=True, augmentations=augmentations, ignore_value=value, num_points=400
        )
        sample = mapper(record)
        assert set(sample["sem_seg"].unique().tolist()) == {1, value}
        labels = sample["sem_seg_point_labels"]
        assert set(labels.unique().tolist()) <= {1, value}
        assert (labels == 1).float().mean() > 0.9


def test_a_record_without_label(write):
    image, _ = write()
    sample = SemSegMapper(is_train=False)({"file_name": str(image)})
    assert "sem_seg" not in sample
    with pytest.raises(ValueError, match=f"'{image}' has no sem_seg_file_name"):
        SemSegMapper(is_train=True)({"file_name": str(image)})


def test_records_that_do_not_say_use_the_mappers_own(write):
    label = np.array([[0, 1, 7]], np.uint8)
    record = _record(write(size=(1, 3), label=label))
    del record["num_classes"], record["ignore_label"]
    mapper = SemSegMapper(is_train=True, ignore_label=7, num_classes=2)
    assert mapper(record)["sem_seg"].tolist() == [[0, 1, 255]]
    with pytest.raises(ValueError, match="holds 7"):
        SemSegMapper(is_train=True, num_classes=2)(record)


def test_a_label_of_another_size_names_both_files(write):
    image, label = write(size=(7, 9))
    Image.new("L", (7, 9)).save(label)
    with pytest.raises(SizeMismatchError, match=rf"{label}.*\(9, 7\).*{image}.*\(7, 9\)"):
        SemSegMapper(is_train=True)(_record((image, label)))


@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.parametrize("damage", ["missing", "cut", "empty"])
def test_bad_files_are_named(write, which, damage):
    paths = write(size=(40, 40))
    content = paths[which].read_bytes()
    paths[which].unlink()
    if damage != "missing":
        paths[which].write_bytes(content[: len(content) // 2] if damage == "cut" else b"")
    error = FileNotFoundError if damage == "missing" else ValueError
    with pytest.raises(error, match=str(paths[which])):
        SemSegMapper(is_train=True)(_record(paths))


def test_a_bad_file_is_named_from_a_worker_process_too(write):
    paths = write()
    paths[1].write_bytes(b"")
    data = MapDataset(DatasetFromList([_record(paths)]), SemSegMapper(is_train=True))
    with pytest.raises(ValueError, match=str(paths[1])):
        next(iter(DataLoader(data, batch_size=None, num_workers=1)))


def test_an_id_that_is_no_class_is_named(write):
    paths = write(size=(1, 2), label=np.array([[0, 3]], np.uint8))
    with pytest.raises(ValueError, match=rf"{paths[1]}.* holds 3: .* 3 classes 0..2 and 11"):
        SemSegMapper(is_train=False)(_record(paths))


def test_padding_must_be_ignored():
    augmentations = build_sem_seg_augmentations(short_edge=8, crop_size=(8, 8), ignore_value=0)
    with pytest.raises(ValueError, match="pad labels with 0, but ignore_value is 255"):
        SemSegMapper(is_train=True, augmentations=augmentations)


def test_image_format_is_checked():
    with pytest.raises(ValueError, match="image_format must be 'RGB', 'BGR' or 'bands', got 'L'"):
        SemSegMapper(is_train=True, image_format="L")


def _loaded(record: dict, seed: int) -> torch.Tensor:
    """Four batches of two through Detectron2's loader with two workers."""
    torch.manual_seed(seed)
    data = MapDataset(DatasetFromList([record] * 4), _train_mapper())
    loader = build_batch_data_loader(data, TrainingSampler(4, seed=seed), 2, num_workers=2)
    batches = [batch for batch, _ in zip(loader, range(4), strict=False)]
    return torch.stack([sample["image"] for batch in batches for sample in batch])


def test_workers_draw_apart_and_repeatably(write):
    record = _record(write(size=(24, 32)))
    first, again, other = (_loaded(record, seed) for seed in (5, 5, 6))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert len({sample.numpy().tobytes() for sample in first}) == len(first)


def _cfg():
    cfg = get_cfg()
    add_ifa_config(cfg)
    cfg.INPUT.MIN_SIZE_TRAIN = (16,)
    cfg.INPUT.CROP.ENABLED, cfg.INPUT.CROP.TYPE, cfg.INPUT.CROP.SIZE = True, "absolute", [12, 20]
    return cfg


def test_yacs_training(write):
    cfg, record = _cfg(), _record(write(size=(17, 31)))
    record.update(ignore_label=2, num_classes=2)
    cfg.MODEL.SEM_SEG_HEAD.IGNORE_VALUE = 9
    mapper = SemSegMapper(cfg, True)
    values = set()
    for _ in range(20):
        sample = mapper(record)
        assert sample["image"].shape == (3, 12, 20)
        values |= set(sample["sem_seg"].unique().tolist())
    assert values == {0, 1, 9}


def test_yacs_scales_as_detectron2_where_there_is_no_range(write):
    cfg = _cfg()
    cfg.INPUT.SCALE_RANGE, cfg.INPUT.MIN_SIZE_TRAIN = (), (10, 20)
    cfg.INPUT.CROP.ENABLED, cfg.INPUT.COLOR_JITTER = False, False
    mapper, record = SemSegMapper(cfg, True), _record(write(size=(10, 15)))
    shapes = {tuple(mapper(record)["image"].shape) for _ in range(30)}
    assert shapes == {(3, 10, 15), (3, 20, 30)}
    cfg.INPUT.SCALE_RANGE = (0.5, 2.0)
    with pytest.raises(ValueError, match="short_edge"):
        SemSegMapper(cfg, True)


def test_yacs_relative_crops(write):
    cfg = _cfg()
    cfg.INPUT.SCALE_RANGE = (1.0, 1.0)
    cfg.INPUT.CROP.TYPE, cfg.INPUT.CROP.SIZE = "relative", [0.5, 0.5]
    sample = SemSegMapper(cfg, True)(_record(write(size=(16, 32))))
    assert sample["image"].shape == (3, 8, 16)


def test_yacs_testing_resizes_only_if_asked(write):
    cfg, record = _cfg(), _record(write(size=(10, 15)))
    cfg.INPUT.MIN_SIZE_TEST = 0
    assert SemSegMapper(cfg, False)(record)["image"].shape == (3, 10, 15)
    cfg.INPUT.MIN_SIZE_TEST = 20
    sample = SemSegMapper(cfg, is_train=False)(record)
    assert sample["image"].shape == (3, 20, 30)
    assert sample["sem_seg"].shape == (20, 30)
    assert (sample["height"], sample["width"]) == (10, 15)
