"""Types that labels are kept in."""

import pytest
import torch

from ifa_d2.fields import label_dtype


@pytest.mark.parametrize(
    ("num_classes", "dtype"),
    [
        (1, torch.uint8),
        (256, torch.uint8),
        (257, torch.int16),
        (32768, torch.int16),
        (32769, torch.int32),
    ],
)
def test_the_last_class_fits(num_classes: int, dtype: torch.dtype) -> None:
    assert label_dtype(num_classes) == dtype
    last = torch.tensor(num_classes - 1)
    assert last.to(dtype) == last
