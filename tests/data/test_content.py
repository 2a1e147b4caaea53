"""What is said of labels from which nothing, or not all, can be learned."""

import subprocess
from pathlib import Path

import numpy as np
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog

from ifa_d2.data import register_sem_seg_folder
from ifa_d2.data.check import check_dataset
from ifa_d2.data.content import LabelContent, check_label_content, class_weights
from tests.forked_python import forked_python

CLASSES = ("ground", "thing", "other")
HALF = np.repeat([[0], [255]], 2, axis=1).astype(np.uint8)


def full(value: int) -> np.ndarray:
    return np.full((2, 2), value, np.uint8)


def register(root: Path, classes: tuple[str, ...] = CLASSES, **options: object) -> None:
    register_sem_seg_folder("mine", root / "images", root / "labels", classes, **options)


def write_labels(write, *labels: np.ndarray) -> None:
    for index, label in enumerate(labels):
        write(f"{index:03d}", label.shape, label)


NOTHING = {
    "masks": (
        [HALF, HALF],
        r"hold 0 and 255 alone.*masks of 0 and 255; register .*\{0: 'ground', 255: 'thing'\}",
    ),
    "one class": ([full(1)] * 3, r"hold 1, and so one class alone, 'thing', of the 3 registered"),
    "ignored": ([full(255)], r"hold 255 alone, which is ignored: write.*0\.\.2.*ignore_label"),
}


@pytest.mark.parametrize("labels, said", NOTHING.values(), ids=NOTHING)
def test_labels_that_teach_nothing_are_refused(write, tmp_path, labels, said) -> None:
    write_labels(write, *labels)
    register(tmp_path)
    with pytest.raises(ValueError, match=rf"data set 'mine': its labels {said}"):
        check_label_content("mine")
    report = check_dataset("mine")
    assert not report.ok and not report.faults and report.to_dict()["ok"] is False
    assert f"bad: mine: {report.content_fault}" in report.to_text()


def test_one_registered_class_is_refused(write, tmp_path) -> None:
    write_labels(write, full(0))
    register(tmp_path, ("thing",))
    with pytest.raises(ValueError, match=r"data set 'mine': it has one class, 'thing'.*background"):
        check_label_content("mine")
    report = check_dataset("mine")  # its files can be used, to draw for example
    assert report.ok and "warning: it has one class, 'thing'" in report.to_text()


def test_what_may_be_meant_is_a_warning(write, tmp_path) -> None:
    label = np.array([[0, 1], [255, 255], [255, 255]], np.uint8)
    write_labels(write, label)
    register(tmp_path)
    absent, ignored = check_label_content("mine")
    assert absent.startswith("data set 'mine': in no image: other")
    assert "67 % of the pixels are 255, which is ignored" in ignored
    report = check_dataset("mine")
    assert report.ok and len(report.warnings) == 2
    for warning in report.warnings:
        assert f"\nwarning: {warning}\n" in report.to_text()


def test_a_rare_class_is_looked_for_beyond_the_sample(write, tmp_path) -> None:
    write_labels(write, *[full(0)] * 20, full(2), *[full(0)] * 4)
    register(tmp_path)
    assert check_label_content("mine", sample=2) == []  # nothing is known of "thing"
    (absent,) = check_label_content("mine", sample=25)
    assert "in no image: thing" in absent


def test_a_sample_of_varied_labels_is_enough(write, tmp_path) -> None:
    mixed = np.array([[0, 1], [2, 0]], np.uint8)
    write_labels(write, *[mixed] * 9)
    register(tmp_path)
    broken = tmp_path / "labels" / "001.png"
    broken.write_bytes(b"")
    assert check_label_content("mine", sample=3) == []  # 0, 3 and 6
    with pytest.raises(ValueError, match=f"cannot read the label '{broken}'"):
        check_label_content("mine", 9)


def test_an_id_that_is_no_class_is_named(write, tmp_path) -> None:
    write_labels(write, full(7))
    register(tmp_path)
    with pytest.raises(ValueError, match=r"000\.png' holds 7: allowed are the 3 classes 0\.\.2"):
        check_label_content("mine")


def test_an_ignored_value_below_the_classes(write, tmp_path) -> None:
    write_labels(write, np.array([[0, 1], [2, 0]], np.uint8))
    register(tmp_path, ignore_label=0)
    (absent,) = check_label_content("mine")
    assert "in no image: ground" in absent


def test_images_without_labels_are_passed_over(write, tmp_path) -> None:
    write("a", (4, 6), num_classes=2)
    register_sem_seg_folder("mine", tmp_path / "images", None, CLASSES)
    assert check_label_content("mine") == []


@pytest.mark.parametrize("metadata", [{}, {"stuff_classes": ["ground", "thing"]}])
def test_labels_whose_ids_are_not_known_are_not_opened(write, metadata) -> None:
    register_broken_label(write, **metadata)
    assert check_label_content("theirs") == []  # it may be a mapper that knows what is ignored


def test_labels_whose_ids_are_known_are_opened(write) -> None:
    register_broken_label(write, stuff_classes=["ground", "thing"], ignore_label=255)
    with pytest.raises(ValueError, match="cannot read the label"):
        check_label_content("theirs")


def register_broken_label(write, **metadata: object) -> None:
    image, label = write("a", (4, 6), num_classes=2)
    label.write_bytes(b"")
    records = [{"file_name": str(image), "sem_seg_file_name": str(label)}]
    DatasetCatalog.register("theirs", lambda: records)
    MetadataCatalog.get("theirs").set(**metadata)


def test_bad_arguments(write, tmp_path) -> None:
    write_labels(write, full(0))
    register(tmp_path)
    with pytest.raises(ValueError, match="sample must be at least 1, got 0"):
        check_label_content("mine", 0)
    with pytest.raises(ValueError, match=r"name must be a registered data set .* got 'min'"):
        check_label_content("min")


def test_a_long_list_of_absent_classes_is_cut() -> None:
    names = tuple(f"c{index}" for index in range(30))
    pixels = np.array([5, 5] + [0] * 28)
    (absent,) = LabelContent(names, pixels, 0, 255).warnings()
    assert "c2, c3" in absent and "c9 and 20 more" in absent and "c10" not in absent


def test_the_command_says_so_by_its_status(write, tmp_path) -> None:
    write_labels(write, HALF)
    config = tmp_path / "config.py"
    config.write_text(
        "from ifa_d2.data import register_sem_seg_folder\n"
        f"register_sem_seg_folder('masks', {str(tmp_path / 'images')!r}, "
        f"{str(tmp_path / 'labels')!r}, ['ground', 'thing'])\n"
        "dataloader = dict(train=dict(dataset=dict(names='masks')))\n"
        "train = dict(output_dir='')\n"
    )
    root = Path(__file__).parents[2]
    command = [forked_python(), root / "tools" / "check_dataset.py", "--config-file", config]
    done = subprocess.run([*command, "--workers", "1"], cwd=root, capture_output=True, text=True)
    assert done.returncode == 1, done.stderr
    assert "bad: masks: its labels hold 0 and 255 alone" in done.stdout


def test_class_weights_balance() -> None:
    """scikit-learn's "balanced" is n / (K n_c), of the classes that are there."""
    pixels = [600, 300, 0, 100]
    assert class_weights(pixels) == pytest.approx([1000 / 1800, 1000 / 900, 0, 1000 / 300])
    assert class_weights(pixels, 0.0) == pytest.approx([1, 1, 0, 1])
    half = np.array(class_weights(pixels, 0.5))
    assert half @ pixels / 1000 == pytest.approx(1)
    assert half[3] / half[0] == pytest.approx(6**0.5)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (([1, 2], 1.5), r"balance must be in \[0, 1\], got 1.5"),
        (([0, 0],), r"not all 0, got \[0, 0\]"),
        (([-1, 2],), "one count for each class"),
    ],
)
def test_bad_class_weights(arguments: tuple, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        class_weights(*arguments)
