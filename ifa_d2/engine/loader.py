"""The training data as one numbered stream of samples."""

import signal
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from detectron2.data import DatasetFromList
from detectron2.data.build import build_batch_data_loader
from detectron2.data.samplers import RepeatFactorTrainingSampler, TrainingSampler
from detectron2.utils import comm
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset, get_worker_info

from ..data.rare_classes import repeat_factors
from .random_state import seeded_sample


class TrainingStream(IterableDataset):
    """An endless shuffled stream of samples, of which each process and worker takes its part.

    The sample at a position of the stream depends on the seed and on the position alone, its
    random augmentation too: not on the number of processes, not on the number of workers, not
    on where the stream was entered. So a resumed run sees what the uninterrupted one would have
    seen, and two processes with half the batch each see what one process sees.

    Attributes:
        seed: of the order and of the augmentations; the same in all processes.
    """

    def __init__(
        self,
        dataset: Sequence[dict] | Dataset,
        mapper: Callable[[dict], Any],
        *,
        batch_size: int,
        seed: int | None = None,
        repeats: Tensor | None = None,
    ) -> None:
        """
        Args:
            dataset: dataset dicts, or a dataset of them with a length.
            mapper: makes a sample of one dataset dict.
            batch_size: samples in a batch of this process.
            seed: None lets the processes agree on one.
            repeats: (N,) how often each is in an epoch, on average; None is once.
        """
        super().__init__()
        self._dataset = DatasetFromList(dataset) if isinstance(dataset, list) else dataset
        self._mapper = mapper
        self._batch_size = batch_size
        self._repeats = repeats
        self._rank = comm.get_rank()
        self._world_size = comm.get_world_size()
        self.enter(0, comm.shared_random_seed() if seed is None else seed)

    @property
    def num_records(self) -> int:
        """How many records the stream is drawn from."""
        return len(self._dataset)

    def enter(self, start_iter: int, seed: int) -> None:
        """Let the next iteration over the stream begin with the batch of ``start_iter``."""
        self.seed = seed
        self._start_iter = start_iter
        # It gives this process every world_size-th index, from its rank on.
        if self._repeats is None:
            self._sampler = TrainingSampler(len(self._dataset), seed=seed)
        else:
            self._sampler = RepeatFactorTrainingSampler(self._repeats, seed=seed)

    def __iter__(self) -> Iterator[Any]:
        worker = get_worker_info()
        worker_id, num_workers = (worker.id, worker.num_workers) if worker else (0, 1)
        if worker:  # Ctrl-C is the training's, which ends its workers when it has saved
            signal.signal(signal.SIGINT, signal.SIG_IGN)
        for count, index in enumerate(self._sampler):
            batch = count // self._batch_size - self._start_iter
            # The loader takes whole batches of the workers in turn.
            if batch < 0 or batch % num_workers != worker_id:
                continue
            with seeded_sample(self.seed, count * self._world_size + self._rank):
                sample = self._mapper(self._dataset[index])
            yield sample


def build_train_loader(
    dataset: Sequence[dict] | Dataset,
    *,
    mapper: Callable[[dict], Any],
    total_batch_size: int,
    num_workers: int = 0,
    seed: int | None = None,
    repeat_threshold: float = 0.0,
) -> DataLoader:
    """A loader of :class:`TrainingStream`, whose batches are lists of samples.

    Args:
        dataset: dataset dicts, or a dataset of them with a length.
        mapper: makes a sample of one dataset dict.
        total_batch_size: samples in a batch over all processes.
        num_workers: worker processes for this process; 0 loads in the process itself.
        seed: of order and augmentation; None, or a negative number, draws one.
        repeat_threshold: share of the pictures below which a class is rare, and pictures that show
            it are repeated, see :func:`ifa_d2.data.rare_classes.repeat_factors`; 0 repeats none.

    Raises:
        ValueError: the batch does not divide evenly among the processes, or is not positive; or a
            threshold out of its range.
    """
    world_size = comm.get_world_size()
    if total_batch_size < 1 or total_batch_size % world_size:
        raise ValueError(
            f"total_batch_size must be a positive multiple of the number of processes "
            f"({world_size}), got {total_batch_size}"
        )
    stream = TrainingStream(
        dataset,
        mapper,
        batch_size=total_batch_size // world_size,
        seed=None if seed is None or seed < 0 else seed,
        repeats=repeat_factors(dataset, repeat_threshold) if repeat_threshold else None,
    )
    # The loader draws from a generator of its own, so that making it disturbs no other.
    return build_batch_data_loader(
        stream, None, total_batch_size, num_workers=num_workers, seed=stream.seed
    )
