import numpy as np
import pytest
import torch

from ifa_d2.evaluation.predictions import label_dtype, predicted_labels


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("size", [(1, 1), (3, 40_000), (301, 7), (1, 70_000)])
def test_most_likely_class(dtype: torch.dtype, size: tuple[int, int]) -> None:
    """Over several bands; half precision has many equal logits, of which the first counts."""
    logits = torch.randn(5, *size).to(dtype)
    labels = predicted_labels(logits, 5, "a.png")
    assert labels.dtype == np.uint8
    wide = logits.double().numpy()
    np.testing.assert_array_equal(labels, wide.argmax(axis=0))


def test_logits_in_another_memory_layout_or_of_gradients() -> None:
    logits = torch.randn(9, 13, 4, requires_grad=True).permute(2, 0, 1)
    np.testing.assert_array_equal(predicted_labels(logits, 4, "a"), logits.argmax(0).numpy())


def test_infinite_logits() -> None:
    logits = torch.full((3, 2, 2), -torch.inf)
    logits[2, 0] = torch.inf
    assert predicted_labels(logits, 3, "a").tolist() == [[2, 2], [0, 0]]


@pytest.mark.parametrize(("num_classes", "dtype"), [(255, np.uint8), (256, np.uint16)])
def test_type_holds_every_class_and_one_more(num_classes: int, dtype: type) -> None:
    assert label_dtype(num_classes) == dtype
    logits = torch.zeros(num_classes, 1, 2)
    logits[-1, 0, 1] = 1
    labels = predicted_labels(logits, num_classes, "a")
    assert labels.dtype == dtype and labels.tolist() == [[0, num_classes - 1]]


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int64])
def test_labels_stay_as_they_are(dtype: torch.dtype) -> None:
    given = torch.randint(0, 4, (6, 5), dtype=dtype)
    labels = predicted_labels(given.t(), 4, "a")
    assert labels.dtype == np.uint8 and labels.flags.c_contiguous
    np.testing.assert_array_equal(labels, given.t().numpy())


@pytest.mark.parametrize("place", [(0, 0, 0), (2, 1, 1), (1, 3, 2)])
def test_logits_that_are_no_numbers(place: tuple[int, int, int]) -> None:
    logits = torch.randn(3, 4, 3)
    logits[place] = torch.nan
    with pytest.raises(ValueError, match=r"'a\.png' has logits that are not a number"):
        predicted_labels(logits, 3, "a.png")


@pytest.mark.parametrize(
    ("sem_seg", "message"),
    [
        (torch.zeros(5, 2, 2), "logits of 5 classes, but the data set has 3"),
        (torch.tensor([[0, 3]]), "labels from 0 to 3, but the data set has the 3 classes"),
        (torch.tensor([[-1, 2]]), "labels from -1 to 2"),
        (torch.zeros(2, 2), r"must be logits .* got \(2, 2\) of torch.float32"),
        (torch.zeros(1, 3, 2, 2), r"must be logits .* got \(1, 3, 2, 2\)"),
    ],
)
def test_what_is_no_prediction(sem_seg: torch.Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=rf"'a\.png'.*{message}"):
        predicted_labels(sem_seg, 3, "a.png")
