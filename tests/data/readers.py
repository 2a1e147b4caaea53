"""The labels of a data set as all parts of the package read them."""

import pickle
from typing import Any

import numpy as np
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog

from ifa_d2.data import SemSegMapper
from ifa_d2.data.check import check_dataset
from ifa_d2.data.content import check_label_content
from ifa_d2.evaluation import SemSegEvaluator


def read_everywhere(meant: list, ignore_value: int = 255, **options: Any) -> None:
    """Assert the labels of the only picture of "mine" in training, evaluation and the checks.

    Further options are the mapper's.
    """
    (record,) = DatasetCatalog.get("mine")
    record = pickle.loads(pickle.dumps(record))  # as to a worker
    sample = SemSegMapper(is_train=True, ignore_value=ignore_value, **options)(record)
    assert sample["sem_seg"].tolist() == meant
    label = np.array(meant)
    num_classes = len(MetadataCatalog.get("mine").stuff_classes)
    evaluator = SemSegEvaluator("mine", distributed=False, boundary_widths=(), trimap_widths=())
    answer = torch.from_numpy(np.where(label == ignore_value, 0, label))
    evaluator.process([record], [{"sem_seg": answer}])
    assert evaluator.evaluate()["sem_seg"]["mIoU"] == 100
    check_label_content("mine")
    report = check_dataset("mine")
    assert report.ok, report.to_text()
    counts = [int((label == index).sum()) for index in range(num_classes)]
    assert [one.pixels for one in report.classes] == counts
    assert report.ignored_share == (label == ignore_value).mean()
