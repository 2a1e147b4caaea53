"""Several data sets in one training, each shown as often as it is asked for."""

import math
from collections.abc import Sequence

from detectron2.data import get_detection_dataset_dicts

from .catalog import check_name

REPEAT_FACTOR = "repeat_factor"  # key of a record


def mixed_dataset_dicts(names: Sequence[str], repeat_factors: Sequence[float]) -> list[dict]:
    """List the records of data sets with the factors by which a training repeats them.

    Args:
        names: of registered data sets.
        repeat_factors: for each, how often its pictures are shown in a pass, in the mean: 2.5 is
            twice and three times, 0.5 is every other time. A training draws by them with
            Detectron2's ``RepeatFactorTrainingSampler``.

    Returns:
        Records with ``repeat_factor``.

    Raises:
        ValueError: a name that is not registered or twice, not a factor for each, or factors out of
            range: each must be above 0, and one at least 1.
    """
    names, factors = list(names), [float(factor) for factor in repeat_factors]
    if not names or len(set(names)) < len(names):
        raise ValueError(f"names must be different data sets, got {names}")
    if len(factors) != len(names):
        raise ValueError(
            f"repeat_factors must be {len(names)} numbers, one for each of {names}, got {factors}"
        )
    if not all(math.isfinite(one) and one > 0 for one in factors) or max(factors) < 1:
        raise ValueError(
            f"repeat_factors must be above 0, and one of them at least 1, got {factors}"
        )
    for name in names:
        check_name(name, "names")
    return [
        record | {REPEAT_FACTOR: factor}
        for name, factor in zip(names, factors, strict=True)
        for record in get_detection_dataset_dicts(name, filter_empty=False)
    ]
