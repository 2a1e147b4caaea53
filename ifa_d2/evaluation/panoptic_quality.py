"""Panoptic quality, counted by cityscapesScripts."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from detectron2.evaluation import COCOPanopticEvaluator

from ..compat import stand_in
from ..data.panoptic_mapper import segment_picture


class PanopticEvaluator(COCOPanopticEvaluator):
    """Detectron2's evaluator of panoptic quality (Kirillov et al. 2019), without panopticapi.

    COCO's evaluation, panopticapi, is on no registry but in a copy that refuses NumPy 2. The one of
    Cityscapes, in cityscapesScripts, is the same code and counts any data set, with the rules of
    the paper's Sec. 4.1 and 4.2 for void and for crowds.
    """

    def process(self, inputs: Sequence[dict[str, Any]], outputs: Sequence[dict[str, Any]]) -> None:
        with stand_in("panopticapi.utils", id2rgb=segment_picture):
            super().process(inputs, outputs)

    def evaluate(self) -> dict[str, dict[str, float]] | None:
        """PQ, SQ and RQ of all, of things (``_th``) and of stuff (``_st``), in percent.

        Those of a kind that neither labels nor predictions have are NaN.

        Raises:
            FileNotFoundError: the data set's panoptic pictures are not there.
            ValueError: a picture of the data set without a prediction.
        """
        with stand_in("panopticapi.evaluation", pq_compute=_pq_compute):
            return super().evaluate()


def _pq_compute(
    truth_json: str, predictions_json: str, gt_folder: str, pred_folder: str
) -> dict[str, Any]:
    """Figures by kind of segment, with the arguments of panopticapi's function of the name."""
    from cityscapesscripts.evaluation.evalPanopticSemanticLabeling import pq_compute_multi_core

    if not os.path.isdir(gt_folder):
        raise FileNotFoundError(f"panoptic_root {gt_folder!r} of the data set is no folder")
    truth, predictions = (
        json.loads(Path(path).read_text()) for path in (truth_json, predictions_json)
    )
    predicted = {one["image_id"]: one for one in predictions["annotations"]}
    missing = [one["image_id"] for one in truth["annotations"] if one["image_id"] not in predicted]
    if missing:
        raise ValueError(
            f"there is no prediction for {len(missing)} images, such as {missing[0]!r}"
        )
    pairs = [(one, predicted[one["image_id"]]) for one in truth["annotations"]]
    categories = {one["id"]: one for one in truth["categories"]}
    counts = pq_compute_multi_core(pairs, gt_folder, pred_folder, categories)
    kinds = {"All": None, "Things": True, "Stuff": False}
    return {name: _average(counts, categories, is_thing) for name, is_thing in kinds.items()}


def _average(counts: Any, categories: dict[int, Any], is_thing: bool | None) -> dict[str, float]:
    try:
        return counts.pq_average(categories, isthing=is_thing)[0]
    except ZeroDivisionError:  # no label and no prediction has a segment of the kind
        return {"pq": float("nan"), "sq": float("nan"), "rq": float("nan"), "n": 0}
