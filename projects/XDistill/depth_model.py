"""Depth learned from films without depth, with a teacher's segmentation (X-Distill).

Shape legend: B batch, S source frames, H x W pixels.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from depth_networks import DepthNetwork, DepthToSegmentation, PoseNetwork
from torch import Tensor, nn
from view_synthesis import (
    inverse_pose,
    minimum_reprojection,
    photometric_error,
    pose_of,
    project,
    smoothness,
    warp,
)


class SelfSupervisedDepth(nn.Module):
    """A depth network, trained by films as in Monodepth2, and by a teacher as in X-Distill.

    A frame has to look like its neighbours, seen from where the pose network says that it was
    taken, if its depth is right. With a teacher head, a segmentation of the frame has to be found
    in its depth. In eval mode the depth network is all that is asked, and the others may be None.

    Args:
        depth_net: the depth network.
        pose_net: None for a model that only predicts.
        teacher_head: the network h of X-Distill; None is Monodepth2.
        pixel_mean, pixel_std: of each channel, of pixels in [0, 255].
        smoothness_weight: of the smoothness, halved at each scale.
        ssim_weight: share of SSIM in the photometric error.
        auto_mask: leave out pixels that a source frame as it is explains as well.
    """

    def __init__(
        self,
        *,
        depth_net: DepthNetwork,
        pose_net: PoseNetwork | None = None,
        teacher_head: DepthToSegmentation | None = None,
        pixel_mean: Sequence[float],
        pixel_std: Sequence[float],
        smoothness_weight: float = 1e-3,
        ssim_weight: float = 0.85,
        auto_mask: bool = True,
    ) -> None:
        super().__init__()
        if smoothness_weight < 0:
            raise ValueError(f"smoothness_weight must be 0 or above, got {smoothness_weight}")
        if not 0 <= ssim_weight <= 1:
            raise ValueError(f"ssim_weight must be in [0, 1], got {ssim_weight}")
        self.depth_net, self.pose_net, self.teacher_head = depth_net, pose_net, teacher_head
        self.register_buffer("pixel_mean", torch.tensor(list(pixel_mean)).view(-1, 1, 1), False)
        self.register_buffer("pixel_std", torch.tensor(list(pixel_std)).view(-1, 1, 1), False)
        self.smoothness_weight = smoothness_weight
        self.ssim_weight = ssim_weight
        self.auto_mask = auto_mask

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return self.pixel_mean.device

    def forward(self, batched_inputs: Sequence[Mapping[str, Any]]) -> Any:
        """Losses in training; otherwise the depth of each picture.

        Args:
            batched_inputs: ``image`` (3, H, W), ``height`` and ``width`` of the answer; in training
                ``sources`` (S, 3, H, W), ``is_before`` (S,) bool, which of them were taken before
                the image, ``intrinsics`` (3, 3) in pixels and, with a teacher head, ``teacher``
                (H, W) int64.

        Returns:
            In training the losses; otherwise a dict each, with ``depth``, (height, width), whose
            scale is unknown.

        Raises:
            ValueError: inputs of different sizes, or without what training needs.
        """
        images = self._stack(batched_inputs, "image").float()
        if not self.training:
            return self._depths(images, batched_inputs)
        if self.pose_net is None:
            raise ValueError("pose_net must be there to train, got None")
        return self._losses(images, batched_inputs)

    def _stack(self, batched_inputs: Sequence[Mapping[str, Any]], name: str) -> Tensor:
        """One entry of all inputs."""
        absent = [index for index, one in enumerate(batched_inputs) if name not in one]
        if absent:
            raise ValueError(f"inputs must have {name!r} here, got {sorted(batched_inputs[0])}")
        shapes = {tuple(one[name].shape) for one in batched_inputs}
        if len(shapes) > 1:
            raise ValueError(
                f"{name} must have one shape in a batch, got {sorted(shapes)}: resize or crop to "
                "one size in the mapper's augmentations"
            )
        return torch.stack([one[name].to(self.device) for one in batched_inputs])

    def _normalized(self, images: Tensor) -> Tensor:
        """Normalise images (..., 3, H, W), and repeat their border up to the networks' stride.

        A side has two cells of the coarsest feature at least, which the decoder mirrors.
        """
        stride = self.depth_net.stride
        bottom, right = (max(-side % stride, 2 * stride - side) for side in images.shape[-2:])
        normal = (images - self.pixel_mean) / self.pixel_std
        return F.pad(normal, (0, right, 0, bottom), mode="replicate")

    def _depths(
        self, images: Tensor, batched_inputs: Sequence[Mapping[str, Any]]
    ) -> list[dict[str, Tensor]]:
        height, width = images.shape[2:]
        disparities = self.depth_net(self._normalized(images))[0][:, :, :height, :width]
        answers = []
        for one, disparity in zip(batched_inputs, disparities, strict=True):
            size = (one.get("height", height), one.get("width", width))
            resized = F.interpolate(disparity[None], size, mode="bilinear", align_corners=False)
            answers.append({"depth": self.depth_net.to_depth(resized)[0, 0]})
        return answers

    def _losses(
        self, images: Tensor, batched_inputs: Sequence[Mapping[str, Any]]
    ) -> dict[str, Tensor]:
        sources = self._stack(batched_inputs, "sources").float()
        is_before = self._stack(batched_inputs, "is_before")
        intrinsics = self._stack(batched_inputs, "intrinsics").float()
        normal = self._normalized(images)
        poses = self._poses(normal, sources, is_before)
        scales = self.depth_net(normal)
        with torch.autocast(images.device.type, enabled=False):  # views in full precision
            scales = [scale.float() for scale in scales]
            losses = self._photometric(images / 255, sources / 255, scales, poses, intrinsics)
            if self.teacher_head is not None:
                teacher = self._stack(batched_inputs, "teacher")
                full = scales[0][:, :, : images.shape[2], : images.shape[3]]
                losses["loss_teacher"] = self.teacher_head.loss(full, teacher)
        return losses

    def _poses(self, normal: Tensor, sources: Tensor, is_before: Tensor) -> list[Tensor]:
        """Poses (B, 4, 4) from the image's coordinates to those of each source.

        The pose network is always given frames in their order in time.
        """
        poses = []
        for index in range(sources.shape[1]):
            source = self._normalized(sources[:, index])
            before = is_before[:, index].view(-1, 1, 1, 1)
            first, second = torch.where(before, source, normal), torch.where(before, normal, source)
            pose = pose_of(*(part.float() for part in self.pose_net(first, second)))
            poses.append(torch.where(before[:, 0], inverse_pose(pose), pose))
        return poses

    def _photometric(
        self,
        images: Tensor,
        sources: Tensor,
        scales: Sequence[Tensor],
        poses: Sequence[Tensor],
        intrinsics: Tensor,
    ) -> dict[str, Tensor]:
        """Photometric loss and smoothness, means over scales.

        Args:
            images: (B, 3, H, W) in [0, 1].
            sources: (B, S, 3, H, W) in [0, 1].
            scales: disparities, of the padded image's size and of each half of it.
            poses: see :meth:`_poses`.
            intrinsics: (B, 3, 3).
        """
        height, width = images.shape[2:]
        unmoved = torch.cat(
            [photometric_error(one, images, self.ssim_weight) for one in sources.unbind(1)], dim=1
        )
        if not self.auto_mask:
            unmoved = torch.full_like(unmoved, torch.inf)
        padded_size = scales[0].shape[2:]
        padding = (0, padded_size[1] - width, 0, padded_size[0] - height)
        padded = F.pad(images, padding, mode="replicate")
        photometric, smooth = images.new_zeros(()), images.new_zeros(())
        for index, scale in enumerate(scales):
            full = F.interpolate(scale, padded_size, mode="bilinear", align_corners=False)
            depth = self.depth_net.to_depth(full[:, :, :height, :width])
            errors = torch.cat(
                [
                    photometric_error(
                        warp(source, project(depth, pose, intrinsics)), images, self.ssim_weight
                    )
                    for source, pose in zip(sources.unbind(1), poses, strict=True)
                ],
                dim=1,
            )
            photometric = photometric + minimum_reprojection(errors, unmoved)[0].mean()
            smaller = F.interpolate(padded, scale.shape[2:], mode="area")
            smooth = smooth + smoothness(scale, smaller) / 2**index
        return {
            "loss_photometric": photometric / len(scales),
            "loss_smoothness": self.smoothness_weight * smooth / len(scales),
        }
