"""Panoptic quality, counted by cityscapesScripts."""

import os
from collections.abc import Sequence
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

        Raises:
            FileNotFoundError: the data set's panoptic pictures are not there.
        """
        with stand_in("panopticapi.evaluation", pq_compute=_pq_compute):
            return super().evaluate()


def _pq_compute(
    truth_json: str, predictions_json: str, gt_folder: str, pred_folder: str
) -> dict[str, Any]:
    """Figures by kind of segment, with the arguments of panopticapi's function of the name."""
    from cityscapesscripts.evaluation.evalPanopticSemanticLabeling import evaluatePanoptic

    if not os.path.isdir(gt_folder):  # it would end the process, without a word in a log
        raise FileNotFoundError(f"panoptic_root {gt_folder!r} of the data set is no folder")
    return evaluatePanoptic(truth_json, gt_folder, predictions_json, pred_folder, os.devnull)
