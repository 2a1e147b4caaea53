"""Confidence from a labelled frame, and the area under the curve."""

import numpy as np
import pytest
import torch
from confidence import auroc, neighbour_consistency


def test_auroc_counts_pairs() -> None:
    rng = np.random.default_rng(0)
    scores, correct = rng.integers(0, 6, 60).astype(np.float32), rng.random(60) < 0.6
    right, wrong = scores[correct][:, None], scores[~correct][None]
    pairs = (right > wrong).mean() + (right == wrong).mean() / 2
    assert auroc(scores, correct) == pytest.approx(pairs)
    assert auroc(correct.astype(np.float32), correct) == 1
    assert np.isnan(auroc(scores, np.ones(60, bool)))
    assert np.isnan(auroc(scores, np.zeros(60, bool)))


def test_a_wrong_label_is_not_consistent_with_the_true_ones_nearby() -> None:
    """The frames look the same; the first position is predicted as what looks otherwise."""
    features = torch.eye(3)[:, [0, 0, 1, 1, 2, 2]].view(3, 2, 3)
    truth = torch.tensor([[0, 0, 1], [1, 9, 9]])
    labels = torch.tensor([[1, 0, 1], [1, 1, 0]])
    found = neighbour_consistency(features, labels, features, truth, 2)
    assert found.shape == (2, 3)
    assert found[0, 0] == 0
    torch.testing.assert_close(found.flatten()[1:4], torch.ones(3))
