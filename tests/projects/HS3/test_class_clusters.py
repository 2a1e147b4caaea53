"""Clusters of planted confusion, their scores, and the ray through the last stage's point."""

import itertools

import numpy as np
import pytest
from class_clusters import (
    choose_num_clusters,
    class_similarity,
    cluster_scores,
    mean_iou,
    merge_counts,
    nested_clusters,
)

from ifa_d2.metrics.confusion import count_pairs


def planted(rates: dict[tuple[int, int], float], pixels: list[int]) -> np.ndarray:
    """Counts of classes with so many labelled pixels, of which a share is taken for another."""
    counts = np.diag([*pixels, 0]).astype(np.int64)
    for (label, prediction), rate in rates.items():
        moved = round(rate * pixels[label])
        counts[label, prediction] += moved
        counts[label, label] -= moved
    return counts


def random_counts(num_classes: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 1000, (num_classes + 1, num_classes + 1))


def merged_one_by_one(counts: np.ndarray) -> list[set[frozenset[int]]]:
    """Average linkage as it is defined, from classes to two clusters."""
    similarity = class_similarity(counts)
    clusters = [frozenset([k]) for k in range(len(similarity))]
    steps = [set(clusters)]
    while len(clusters) > 2:
        pair = max(
            itertools.combinations(clusters, 2),
            key=lambda two: np.mean([similarity[i, j] for i in two[0] for j in two[1]]),
        )
        clusters = [one for one in clusters if one not in pair] + [pair[0] | pair[1]]
        steps.append(set(clusters))
    return steps


def as_sets(clusters: tuple[int, ...]) -> set[frozenset[int]]:
    return {
        frozenset(k for k, one in enumerate(clusters) if one == cluster) for cluster in clusters
    }


def test_similarity_is_the_sum_of_both_rates() -> None:
    counts = planted({(0, 1): 0.25, (1, 0): 0.5, (2, 0): 0.1}, [400, 20, 10, 0])
    counts[4, :] = counts[:, 4] = 77  # pixels without a class
    expected = np.zeros((4, 4))
    expected[0, 1] = expected[1, 0] = 0.75
    expected[0, 2] = expected[2, 0] = 0.1
    found = class_similarity(counts)
    assert np.allclose(found - np.diag(np.diag(found)), expected)


@pytest.mark.parametrize("pixels", [[1000] * 6, [1000, 200, 10_000, 500, 10_000_000, 100]])
def test_two_planted_blocks_are_merged_in_their_order(pixels: list[int]) -> None:
    """Within {0, 2, 4} and {1, 3, 5}, hardly between them, whatever the classes' pixels."""
    counts = planted(
        {
            (0, 2): 0.4,
            (3, 5): 0.3,
            (4, 0): 0.2,
            (4, 2): 0.2,
            (1, 3): 0.1,
            (1, 5): 0.1,
            (1, 0): 0.02,
        },
        pixels,
    )
    assert nested_clusters(counts) == {
        6: (0, 1, 2, 3, 4, 5),
        5: (0, 1, 0, 2, 3, 4),
        4: (0, 1, 0, 2, 3, 2),
        3: (0, 1, 0, 2, 0, 2),
        2: (0, 1, 0, 1, 0, 1),
    }


@pytest.mark.parametrize("num_classes", [2, 3, 5, 11, 19])
@pytest.mark.parametrize("seed", range(3))
def test_partitions_are_nested_and_those_of_average_linkage(num_classes: int, seed: int) -> None:
    counts = random_counts(num_classes, seed)
    found = nested_clusters(counts)
    assert list(found) == list(range(num_classes, 1, -1))
    steps = [as_sets(one) for one in found.values()]
    assert steps == merged_one_by_one(counts)
    for number, one in found.items():
        assert len(one) == num_classes  # each class is in one
        assert list(dict.fromkeys(one)) == list(range(number))
    for finer, coarser in itertools.pairwise(steps):
        assert all(any(small <= large for large in coarser) for small in finer)


def test_classes_without_pixels_and_ties_are_clustered_too() -> None:
    for counts in (np.zeros((6, 6), np.int64), planted({(0, 1): 0.5}, [10, 10, 0, 0, 0])):
        found = nested_clusters(counts)
        assert [len(set(one)) for one in found.values()] == [5, 4, 3, 2]
    with pytest.raises(ValueError, match="2 classes or more, got 1"):
        nested_clusters(np.ones((2, 2), np.int64))


def test_merged_counts_are_those_of_merged_labels() -> None:
    rng = np.random.default_rng(0)
    label, prediction = rng.integers(0, 6, (2, 30, 40)).astype(np.uint8)  # 5 is no class
    clusters = (1, 0, 1, 2, 0)
    table = np.array([*clusters, 3], np.uint8)
    expected = count_pairs(table[label], table[prediction], 3)
    assert np.array_equal(merge_counts(count_pairs(label, prediction, 5), clusters), expected)


def test_scores_are_mean_iou_of_the_clusters() -> None:
    counts = planted({(0, 1): 0.5, (2, 0): 0.1}, [100, 100, 100])
    scores = cluster_scores(counts, nested_clusters(counts))
    assert scores[3] == pytest.approx((50 / 110 + 100 / 150 + 90 / 100) / 3) == mean_iou(counts)
    assert scores[2] == pytest.approx((200 / 210 + 90 / 100) / 2)
    apart = planted({}, [10, 20, 30, 0])  # the last class is absent
    assert set(cluster_scores(apart, nested_clusters(apart)).values()) == {1.0}


@pytest.mark.parametrize(
    ("score", "expected"),
    [
        (lambda n: 0.8, 10),  # as good as the last stage
        (lambda n: 0.9, 10),
        (lambda n: 0.08 * n, 10),  # on the ray all along
        (lambda n: 0.4, 5),  # meets it at half of the classes
        (lambda n: 0.39, 4),
        (lambda n: 0.5 + 0.02 * (10 - n), 7),  # 0.56 * 10 / 7 = 0.8 exactly
        (lambda n: 0.9 if n == 3 else 0.05, 3),
        (lambda n: 0.0, 2),  # below it all along
        (lambda n: 0.16 if n == 2 else 0.0, 2),
    ],
)
def test_number_of_clusters_is_the_largest_on_or_above_the_ray(score, expected: int) -> None:
    scores = {n: score(n) for n in range(10, 1, -1)}
    assert choose_num_clusters(scores, 0.8) == expected
    assert choose_num_clusters(dict(reversed(scores.items())), 0.8) == expected


def test_scores_that_say_nothing_are_refused() -> None:
    for scores, final in (({}, 0.5), ({3: float("nan"), 2: 0.5}, 0.5), ({2: 0.5}, float("nan"))):
        with pytest.raises(ValueError, match="scores must be finite"):
            choose_num_clusters(scores, final)
