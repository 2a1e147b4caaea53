"""From a config and weights to the fields of pictures."""

import os
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from detectron2.data import Metadata, MetadataCatalog
from detectron2.data import transforms as T
from detectron2.modeling import PanopticFPN
from omegaconf import DictConfig
from torch import Tensor, nn

from ..data.bands import BANDS, TYPES, to_bands
from ..data.mapper import check_image_format
from ..fields import SegmentationField, check_eval
from ..modeling import IFASemSegHead, MultiViewSegmentor, compute_panoptic_fields
from ..modeling.picture_fields import compute_fields
from .build import build_model, build_test_mapper, test_dataset_names
from .checkpoint import Checkpointer
from .hub import HubMixin
from .inputs import picture_input, read_input
from .run import load_config, names_weights
from .settings import TrainSettings
from .yacs_config import to_lazy_config
from .zoo import PREFIX, zoo_file

Picture = str | os.PathLike[str] | np.ndarray | Tensor  # a file, or an array in BGR order


class Predictor(HubMixin):
    """Computes a picture's features once and predicts at any resolution, window or point.

    Used as Detectron2's ``DefaultPredictor``, but what it returns is a
    :class:`ifa_d2.modeling.SegmentationField`, and of a ``PanopticFPN`` a
    :class:`ifa_d2.modeling.PanopticField`.

    ``Predictor.save_pretrained(FOLDER)`` writes a model with its config, and
    ``Predictor.from_pretrained`` reads such a folder or a repository of the Hugging Face Hub, see
    :class:`ifa_d2.engine.hub.HubMixin`.

    Args:
        model: with a ``backbone``, a ``sem_seg_head`` that is an ``IFASemSegHead``, and pixel
            mean and standard deviation, as Detectron2's ``SemanticSegmentor`` and ``PanopticFPN``;
            it is put in eval mode.
        augmentations: Detectron2 augmentations before the model, such as a resize.
        image_format: channel order of the model's input, "RGB" or "BGR".
        metadata: of a data set with the model's classes, as ``MetadataCatalog.get(NAME)``, for
            names and drawings; None where there is none.

    Attributes:
        metadata: as above.
        cfg: the config that the predictor was built of; None where it was made of a model.

    Raises:
        ValueError: a model without such a head, or metadata of another number of classes.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        augmentations: Sequence[T.Augmentation | T.Transform] = (),
        image_format: str = "RGB",
        metadata: Metadata | None = None,
    ) -> None:
        if not isinstance(getattr(model, "sem_seg_head", None), IFASemSegHead):
            raise ValueError(f"model must have an IFASemSegHead, got {type(model).__name__}")
        check_image_format(image_format)
        num_classes = model.sem_seg_head.num_classes
        if metadata is not None and len(metadata.get("stuff_classes", ())) != num_classes:
            raise ValueError(
                f"metadata must have {num_classes} stuff_classes, as many as the model has classes,"
                f" got {len(metadata.get('stuff_classes', ()))} of {metadata.get('name')!r}"
            )
        self.model = model.eval()
        self.metadata = metadata
        self.augmentations = T.AugmentationList(list(augmentations))
        self.image_format = image_format

    @classmethod
    def from_config(
        cls,
        config_file: str,
        weights: str | None = None,
        overrides: Sequence[str] = (),
    ) -> "Predictor":
        """Build the model of a config and load weights.

        Args:
            config_file: a ``.py`` or ``.yaml`` file, or the name of a recipe that comes with the
                package, such as ``"camvid/ifa_r18.py"``.
            weights: a checkpoint; None is that of :func:`find_weights`.
            overrides: changes of the config, "key=value" each.

        Raises:
            FileNotFoundError: a file does not exist.
            ValueError: there are no weights, or they are not of all the model: initial weights of
                a backbone, or of another model.
        """
        cfg = load_config(config_file, overrides)
        return cls.build(cfg, weights, overrides)

    @classmethod
    def from_zoo(cls, name: str) -> "Predictor":
        """A trained model that comes with the package, with its recipe.

        Args:
            name: such as ``"camvid/ifa_lite0"``.

        Raises:
            ValueError: no such model; the message has those that there are.
        """
        zoo_file(name)
        return cls.from_config(f"{name}.py", f"{PREFIX}{name}")

    @classmethod
    def build(
        cls,
        cfg: Any,
        weights: str | None = None,
        overrides: Sequence[str] = (),
    ) -> "Predictor":
        """As :meth:`from_config`, of a config of either kind that was read with ``overrides``.

        Names and colours of classes are those of the config's test data, where that is registered.
        """
        cfg = to_lazy_config(cfg)
        model = load_model(cfg, weights, overrides)
        mapper = build_test_mapper(cfg)
        predictor = cls(
            model,
            augmentations=mapper.augmentations.augs,
            image_format=mapper.image_format,
            metadata=_metadata(cfg, model),
        )
        predictor.cfg = cfg
        return predictor

    def __call__(self, image: Picture) -> SegmentationField:
        """The field of a picture.

        Args:
            image: a file, read as in training by :func:`ifa_d2.data.read_picture`; or an (H, W, 3)
                uint8 array, channels in BGR order as OpenCV and ``DefaultPredictor`` have it; or a
                (3, H, W) uint8 tensor in BGR order. Of a model of bands: a file, read by
                :func:`ifa_d2.data.read_bands`, or an (H, W, C) array of uint8, uint16 or float32,
                NaN, or what the data set is registered with, where there is no data.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: a file that ``read_picture`` refuses, another shape or type, or a model that
                was put in training mode again.
        """
        compute = compute_panoptic_fields if self.is_panoptic else compute_fields
        picture = self._read(image)
        field = compute(self.model, [self._inputs(picture)])[0]
        if self.metadata is not None:
            from ..visualization import draw_field, to_rgb  # here: training draws nothing

            field.drawing = partial(draw_field, image=to_rgb(picture), metadata=self.metadata)
        return field

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the head's classes, in the order of their ids; () where they are not known."""
        return () if self.metadata is None else tuple(self.metadata.stuff_classes)

    @property
    def is_panoptic(self) -> bool:
        """Whether fields know instances and the merged map too."""
        return isinstance(self.model, PanopticFPN)

    @property
    def nodata(self) -> float | None:
        """Value of bands that means no data, as the data set is registered; None for none."""
        return None if self.metadata is None else self.metadata.get("nodata")

    def averaged_labels(self, image: Picture, **views: Any) -> Tensor:
        """Compute labels (H, W) of logits averaged over views of a picture.

        Args:
            image: as of :meth:`__call__`.
            views: arguments of :class:`ifa_d2.modeling.MultiViewSegmentor`, such as
                ``scales=(0.5, 1.0, 1.5)``, ``flip=True``, ``window=(769, 769)``.

        Raises:
            ValueError: as :meth:`__call__`, or a view out of range, by name.
        """
        fields = partial(compute_fields, self.model)
        segmentor = MultiViewSegmentor(
            model=self.model, fields=fields, return_logits=False, **views
        )
        return segmentor([self._inputs(self._read(image))])[0]["sem_seg"]

    def _read(self, image: Picture) -> np.ndarray:
        """A picture as of :func:`.read_input`, which shares no memory with what was given."""
        check_eval(self.model)
        count = self.model.pixel_mean.numel()
        if isinstance(image, str | os.PathLike):
            return read_input(image, self.image_format, count, self.nodata)
        if self.image_format == BANDS:
            return _to_bands(image, count, self.nodata)
        return _to_array(image)[:, :, ::-1].copy()

    def _inputs(self, picture: np.ndarray) -> dict[str, Any]:
        return picture_input(picture, self.augmentations, self.image_format)


def _metadata(cfg: DictConfig, model: nn.Module) -> Metadata | None:
    """That of the config's test data, if it is registered and has as many classes as the model."""
    name = next(iter(test_dataset_names(cfg)), None)
    if name not in MetadataCatalog.list():
        return None
    metadata = MetadataCatalog.get(name)
    head = getattr(model, "sem_seg_head", None)
    same = len(metadata.get("stuff_classes", ())) == getattr(head, "num_classes", None)
    return metadata if same else None


def load_model(
    cfg: Any, weights: str | None, overrides: Sequence[str] = (), *, auxiliary: bool = False
) -> nn.Module:
    """The model of a config with its weights, in eval mode.

    Args:
        cfg: of either kind.
        weights: a checkpoint; None is that of :func:`find_weights`.
        overrides: what ``cfg`` was read with.
        auxiliary: its auxiliary heads are to be asked too.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: there are no weights, or they lack some that the model answers by.
    """
    cfg = to_lazy_config(cfg)
    settings = TrainSettings.from_config(cfg)
    weights = weights or find_weights(settings, overrides)
    if not weights:
        raise ValueError(f"weights must be given: {settings.output_dir} has no checkpoint")
    model = build_model(cfg, pretrained=False)
    Checkpointer(model, settings.output_dir).load_trained(weights, auxiliary=auxiliary)
    return model.eval()


def find_weights(settings: TrainSettings, overrides: Sequence[str] = ()) -> str:
    """The checkpoint of a config to predict with.

    That is what ``train.init_checkpoint`` (``MODEL.WEIGHTS``) names where the overrides set it; or
    else the last checkpoint of the output directory; or else what the config itself names, from
    which its training starts.

    Args:
        settings: of the config.
        overrides: what the config was read with.

    Returns:
        A file or an address; empty where there is none.
    """
    last = Checkpointer(nn.Identity(), settings.output_dir).get_checkpoint_file()
    if names_weights(overrides):
        return settings.init_checkpoint or last
    return last or settings.init_checkpoint


def _to_bands(image: object, count: int, nodata: float | None) -> np.ndarray:
    if not isinstance(image, np.ndarray) or image.ndim != 3 or image.dtype not in TYPES:
        raise ValueError(
            f"image must be a file's path or an (H, W, {count}) array of uint8, uint16 or float32, "
            f"got {getattr(image, 'shape', image)!r} {getattr(image, 'dtype', '')}"
        )
    if image.shape[2] != count or 0 in image.shape:
        raise ValueError(f"image must have {count} bands, got {image.shape}")
    return to_bands(image, [nodata])


def _to_array(image: np.ndarray | Tensor) -> np.ndarray:
    if not isinstance(image, Tensor | np.ndarray):
        raise ValueError(
            "image must be a file's path, a (H, W, 3) uint8 array or a (3, H, W) uint8 tensor, "
            f"got {image!r}"
            + " (cv2.imread gives None where it cannot read a file)"
            * (image is None)
        )
    if isinstance(image, Tensor):
        if image.dim() != 3 or image.shape[0] != 3 or image.dtype != torch.uint8:
            raise ValueError(
                f"image must be a (3, H, W) uint8 tensor, got {tuple(image.shape)} {image.dtype}"
            )
        if image.layout != torch.strided or image.is_meta:
            kind = "meta" if image.is_meta else image.layout
            raise ValueError(f"image must be a dense tensor with values, got a {kind} one")
        image = image.permute(1, 2, 0).cpu().numpy()
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or 0 in image.shape:
        raise ValueError(f"image must be a (H, W, 3) uint8 array, got {image.shape} {image.dtype}")
    return image
