"""Scales, mirror images and windows around segmentors, against averages written out."""

import pytest
import torch
import torch.nn.functional as F
from detectron2.config import get_cfg
from detectron2.data import transforms as T
from detectron2.evaluation import inference_on_dataset
from detectron2.modeling import SemanticSegmentor
from detectron2.modeling.backbone.resnet import BasicStem
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from ifa_d2 import add_ifa_config
from ifa_d2.analysis.measure import peak_memory
from ifa_d2.modeling import FieldSegmentor, MultiViewSegmentor
from ifa_d2.modeling.backbone import PaddedResNet
from tests.heads import SMALL_SHAPE, make_head, make_stages

K = 4


def make(meta: type = SemanticSegmentor, norm: str = "BN", **kwargs) -> nn.Module:
    """A small segmentor of 4 classes whose answers vary from place to place."""
    torch.manual_seed(0)
    stages = make_stages()
    backbone = PaddedResNet(BasicStem(3, 4, "BN"), stages, out_features=("res2", "res3"))
    channels = 32 if norm == "GN" else 6
    head = make_head(
        input_shape=SMALL_SHAPE,
        num_classes=K,
        in_features=("res2", "res3"),
        channels=channels,
        hidden_dims=(64 if norm == "GN" else channels,),
        aux_feature=None,
        norm=norm,
    )
    nn.init.normal_(head.alignment.predictor.weight, std=2.0)
    model = meta(
        backbone=backbone,
        sem_seg_head=head,
        pixel_mean=[120.0] * 3,
        pixel_std=[60.0] * 3,
        **kwargs,
    )
    return model.eval()


def make_image(height: int = 45, width: int = 58) -> Tensor:
    generator = torch.Generator().manual_seed(height * 1000 + width)
    coarse = torch.rand(1, 3, 7, 9, generator=generator) * 255
    return F.interpolate(coarse, (height, width), mode="bilinear")[0].byte()


@pytest.mark.parametrize("meta", [SemanticSegmentor, FieldSegmentor])
@pytest.mark.parametrize(
    "views", [{"scales": (0.5, 1.0), "flip": True}, {"window": (32, 32)}, {"window": (99, 99)}]
)
def test_logits_that_are_not_finite_are_no_labels(meta, views):
    model = make(meta)
    model.sem_seg_head.alignment.predictor.bias.data[1] = float("nan")
    wrapped = MultiViewSegmentor(model=model, return_logits=False, **views)
    with pytest.raises(ValueError, match="logits must be finite to be labelled"):
        answer(wrapped, make_image())


def resize(image: Tensor, size: tuple[int, int]) -> Tensor:
    transform = T.ResizeTransform(*image.shape[1:], *size)
    array = transform.apply_image(image.permute(1, 2, 0).contiguous().numpy())
    return torch.from_numpy(array.copy()).permute(2, 0, 1).contiguous()


def answer(model: nn.Module, image: Tensor, **size: int) -> Tensor:
    with torch.no_grad():
        return model([{"image": image, **size}])[0]["sem_seg"]


KINDS = [(SemanticSegmentor, {}), (FieldSegmentor, {}), (FieldSegmentor, {"return_logits": True})]


@pytest.mark.parametrize(("meta", "kwargs"), KINDS)
@pytest.mark.parametrize(
    "views", [{}, {"scales": (1.0,)}, {"window": (45, 58)}, {"window": (99, 99), "stride": 5}]
)
def test_shown_once_is_the_model_itself(meta, kwargs, views):
    model, image = make(meta, **kwargs), make_image()
    wrapped = MultiViewSegmentor(model=model, **views)
    expected = answer(model, image, height=60, width=31)
    found = answer(wrapped, image, height=60, width=31)
    assert found.dtype == expected.dtype and torch.equal(found, expected)
    batch = [{"image": image}, {"image": make_image(38, 40)}]
    with torch.no_grad():
        for one, other in zip(wrapped(batch), model(batch), strict=True):
            assert torch.equal(one["sem_seg"], other["sem_seg"])


@pytest.mark.parametrize(("meta", "kwargs"), KINDS)
def test_large_windows_change_nothing_at_several_scales(meta, kwargs):
    model, image = make(meta, **kwargs), make_image()
    views = {"scales": (0.5, 1.0, 1.5), "flip": True}
    whole = answer(MultiViewSegmentor(model=model, **views), image)
    window = (round(45 * 1.5) + 1, round(58 * 1.5))
    slid = answer(MultiViewSegmentor(model=model, **views, window=window), image)
    assert torch.equal(whole, slid)


def oracle_windows(
    model, image: Tensor, window: tuple[int, int], stride: tuple[int, int]
) -> Tensor:
    """Probabilities (K, H, W) by summing padded windows and counting them."""
    height, width = image.shape[1:]
    total, count = torch.zeros(K, height, width), torch.zeros(height, width)
    h, w = min(window[0], height), min(window[1], width)
    for y in range(0, max(height - h, 0) + stride[0], stride[0]):
        for x in range(0, max(width - w, 0) + stride[1], stride[1]):
            top, left = min(y, height - h), min(x, width - w)
            crop = image[:, top : top + h, left : left + w]
            total[:, top : top + h, left : left + w] += answer(model, crop).softmax(0)
            count[top : top + h, left : left + w] += 1
    return total / count


@pytest.mark.parametrize(("meta", "kwargs"), [KINDS[0], KINDS[2]])
@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize(
    ("window", "stride"), [((24, 24), (16, 16)), ((17, 80), (5, 80)), ((32, 31), (32, 7))]
)
def test_windows_are_averaged_where_they_overlap(meta, kwargs, flip, window, stride):
    model, image = make(meta, **kwargs), make_image()
    expected = oracle_windows(model, image, window, stride)
    if flip:
        expected = (expected + oracle_windows(model, image.flip(2), window, stride).flip(2)) / 2
    wrapped = MultiViewSegmentor(model=model, window=window, stride=stride, flip=flip)
    found = answer(wrapped, image)
    assert found.shape == (K, 45, 58)
    assert torch.allclose(found.softmax(0), expected, atol=1e-5)
    assert torch.allclose(found.exp(), expected, atol=1e-5)
    labels = answer(
        MultiViewSegmentor(
            model=model, window=window, stride=stride, flip=flip, return_logits=False
        ),
        image,
    )
    assert labels.dtype == torch.uint8
    assert torch.equal(labels, found.argmax(0).byte())


def test_windows_blended_by_a_gaussian():
    """Against weighted sums written out, and nearer to the picture shown whole."""
    model, image = make(), make_image(64, 96)
    total, sums = torch.zeros(K, 64, 96), torch.zeros(64, 96)
    t = (torch.arange(32).double() + 0.5) / 32 - 0.5
    weights = (torch.exp(-0.5 * (8 * t) ** 2) - torch.exp(torch.tensor(-0.5 * 3.5**2))).float()
    weights = weights.clamp(min=1e-12)
    weights = weights[:, None] * weights
    for y in range(0, 33, 16):
        for x in range(0, 65, 16):
            shown = answer(model, image[:, y : y + 32, x : x + 32]).softmax(0)
            total[:, y : y + 32, x : x + 32] += shown * weights
            sums[y : y + 32, x : x + 32] += weights
    views = {"window": (32, 32), "stride": 16}
    found = answer(MultiViewSegmentor(model=model, **views, blend="gaussian"), image).exp()
    assert torch.allclose(found, total / sums, atol=1e-5)
    whole = answer(model, image).softmax(0)
    constant = answer(MultiViewSegmentor(model=model, **views, blend="constant"), image).exp()
    assert torch.equal(constant, answer(MultiViewSegmentor(model=model, **views), image).exp())
    assert (found - whole).abs().mean() < 0.8 * (constant - whole).abs().mean()


SCALES = (0.6, 1.0, 1.7)


@pytest.mark.parametrize("output", [(45, 58), (61, 30)])
def test_scales_of_logits_are_interpolated_as_detectron2_does(output):
    model, image = make(), make_image()
    expected = torch.zeros(K, *output)
    for scale in SCALES:
        scaled = resize(image, (int(45 * scale + 0.5), int(58 * scale + 0.5)))
        for flip in (False, True):
            logits = answer(model, scaled.flip(2) if flip else scaled)
            logits = logits.flip(2) if flip else logits
            logits = F.interpolate(logits[None], output, mode="bilinear", align_corners=False)[0]
            expected += logits.softmax(0) / 6
    wrapped = MultiViewSegmentor(model=model, scales=SCALES, flip=True)
    found = answer(wrapped, image, height=output[0], width=output[1])
    assert torch.allclose(found.exp(), expected, atol=1e-5)


@pytest.mark.parametrize("norm", ["BN", "GN"])
@pytest.mark.parametrize("output", [(45, 58), (61, 30)])
def test_scales_of_a_field_are_asked_at_the_samples(norm, output):
    model, image = make(FieldSegmentor, norm, return_logits=True), make_image()
    expected = torch.zeros(K, *output)
    size = {"height": output[0], "width": output[1]}
    for scale in SCALES:
        scaled = resize(image, (int(45 * scale + 0.5), int(58 * scale + 0.5)))
        expected += answer(model, scaled, **size).softmax(0) / 3
    found = answer(MultiViewSegmentor(model=model, scales=SCALES), image, **size)
    assert torch.allclose(found.exp(), expected, atol=1e-4)


def test_windows_of_a_scaled_field_are_asked_at_the_samples():
    """Each sample against the field of its one window, asked at that point."""
    model, image = make(FieldSegmentor, return_logits=True), make_image(40, 48)
    wrapped = MultiViewSegmentor(model=model, scales=(1.5,), window=(30, 36), stride=1.0)
    found = answer(wrapped, image).exp()
    scaled = resize(image, (60, 72))
    y, x = ((torch.arange(n) + 0.5).double() * 1.5 for n in (40, 48))
    for top in (0, 30):
        for left in (0, 36):
            with torch.no_grad():
                crop = scaled[:, top : top + 30, left : left + 36]
                (field,) = model.fields([{"image": crop}])
            points = torch.cartesian_prod(
                (y[top * 2 // 3 : top * 2 // 3 + 20] - top) / 30,
                (x[left * 2 // 3 : left * 2 // 3 + 24] - left) / 36,
            )
            expected = field.at(points).softmax(1).t().reshape(K, 20, 24)
            part = found[:, top * 2 // 3 :, left * 2 // 3 :][:, :20, :24]
            assert torch.allclose(part, expected, atol=1e-4)


@settings(max_examples=15)
@given(
    size=st.tuples(st.integers(9, 40), st.integers(9, 40)),
    window=st.none() | st.tuples(st.integers(9, 40), st.integers(9, 40)),
    scales=st.lists(st.sampled_from([0.5, 0.75, 1.0, 1.3, 2.0]), min_size=1, max_size=3),
    meta=st.sampled_from(KINDS[::2]),
)
def test_a_mirrored_picture_gets_the_mirrored_answer(size, window, scales, meta):
    wrapped = MultiViewSegmentor(
        model=make(meta[0], **meta[1]), scales=scales, flip=True, window=window
    )
    image = make_image(*size)
    one, other = answer(wrapped, image).exp(), answer(wrapped, image.flip(2)).exp()
    assert one.shape == (K, *size)
    assert torch.allclose(one.sum(0), torch.ones(size), atol=1e-5)
    assert torch.allclose(one, other.flip(2), atol=1e-6)


@pytest.mark.parametrize("meta", [SemanticSegmentor, FieldSegmentor])
def test_labels_of_a_running_band_are_those_of_all_sums(meta):
    """Scales side by side, windows that reach different rows, an answer of another size."""
    model, image = make(meta), make_image()
    views = {"scales": (0.5, 1.0, 1.6), "flip": True, "window": (16, 24)}
    size = {"height": 57, "width": 44}
    labels = answer(MultiViewSegmentor(model=model, **views, return_logits=False), image, **size)
    logits = answer(MultiViewSegmentor(model=model, **views, return_logits=True), image, **size)
    assert logits.shape == (K, 57, 44)
    top = logits.topk(2, dim=0).values
    clear = top[0] - top[1] > 1e-5
    assert clear.float().mean() > 0.99
    assert torch.equal(labels[clear], logits.argmax(0).byte()[clear])


@pytest.mark.parametrize("batch_size", [2, 3, 100])
@pytest.mark.parametrize("meta", [SemanticSegmentor, FieldSegmentor])
def test_windows_in_batches(meta, batch_size):
    model, image = make(meta), make_image()
    views = {"scales": (1.0, 1.3), "flip": True, "window": (20, 24), "return_logits": True}
    sizes: list[int] = []
    model.backbone.register_forward_pre_hook(lambda _, x: sizes.append(len(x[0])))
    single = answer(MultiViewSegmentor(model=model, **views), image)
    count, sizes[:] = len(sizes), []
    batched = answer(MultiViewSegmentor(model=model, **views, batch_size=batch_size), image)
    assert max(sizes) == min(batch_size, 2 * 5)
    assert sum(sizes) == count
    assert torch.allclose(single.exp(), batched.exp(), atol=1e-5)


class PixelModel(nn.Module):
    """Logits of every pixel from its value alone: any view gives the same answer."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.register_buffer("weight", torch.linspace(-1, 1, classes)[:, None, None])

    def forward(self, batched_inputs):
        return [{"sem_seg": self.weight * (one["image"][:1] / 64.0)} for one in batched_inputs]


@given(
    size=st.tuples(st.integers(1, 20), st.integers(1, 20)),
    window=st.tuples(st.integers(1, 24), st.integers(1, 24)),
    stride=st.floats(0.1, 1),
    flip=st.booleans(),
    labels=st.booleans(),
)
def test_any_model_any_size(size, window, stride, flip, labels):
    """Odd sizes, one pixel, windows that are larger: each pixel keeps what it has in all views."""
    model, image = PixelModel(3).eval(), make_image(*size)
    wrapped = MultiViewSegmentor(
        model=model, window=window, stride=stride, flip=flip, return_logits=not labels
    )
    expected, found = answer(model, image), answer(wrapped, image)
    if labels:
        assert torch.equal(found, expected.argmax(0).byte())
    else:
        assert torch.allclose(found.softmax(0), expected.softmax(0), atol=1e-6)


def test_number_of_classes_sets_the_type_of_labels():
    for classes, dtype in ((256, torch.uint8), (257, torch.int16)):
        wrapped = MultiViewSegmentor(
            model=PixelModel(classes).eval(), flip=True, return_logits=False
        )
        assert answer(wrapped, make_image(4, 5)).dtype == dtype


def test_memory_does_not_grow_with_the_number_of_views():
    image, peaks = make_image(128, 128), []
    scores = 40 * 128 * 128 * 4
    for count in (2, 12):
        wrapped = MultiViewSegmentor(model=PixelModel(40).eval(), scales=(1.0,) * count, flip=True)
        peaks.append(peak_memory(lambda wrapped=wrapped: answer(wrapped, image)))
    assert peaks[1] < 1.05 * peaks[0]
    # The sums, a view's logits, and pieces of its probabilities.
    assert peaks[1] < 4.5 * scores


@pytest.mark.parametrize("scales", [(1.0,), (0.5, 1.0)])
def test_memory_of_labels_does_not_grow_with_the_height(scales):
    beyond = []
    for height in (256, 1024):
        wrapped = MultiViewSegmentor(
            model=PixelModel(30).eval(), scales=scales, window=(64, 64), return_logits=False
        )
        image = make_image(height, 64)
        peak = peak_memory(lambda wrapped=wrapped, image=image: answer(wrapped, image))
        pictures = 3 * 64 * height * 2
        beyond.append(peak - 64 * height - pictures)
    assert beyond[1] < 1.1 * beyond[0]


def test_training_and_modes():
    model = make().train()
    wrapped = MultiViewSegmentor(model=model, flip=True)
    inputs = [{"image": make_image(32, 32), "sem_seg": torch.zeros(32, 32).long()}]
    assert set(wrapped(inputs)) == {"loss_sem_seg"}
    for training in (False, True):
        model.train(training)
        wrapped = MultiViewSegmentor(model=model, flip=True)
        inference_on_dataset(wrapped, [inputs], None)
        assert model.training == model.backbone.training == training


def test_same_from_both_kinds_of_config():
    cfg, model = get_cfg(), make()
    add_ifa_config(cfg)
    assert MultiViewSegmentor(cfg, model).transparent
    cfg.TEST.SLIDING_WINDOW.SIZE = (20, 24)
    cfg.TEST.SLIDING_WINDOW.STRIDE = (0.5, 0.5)
    cfg.TEST.SLIDING_WINDOW.BATCH_SIZE = 3
    cfg.TEST.SLIDING_WINDOW.BLEND = "gaussian"
    assert MultiViewSegmentor(cfg, model).views.sizes((45, 58)) == [(45, 58)]
    cfg.TEST.AUG.ENABLED = True
    cfg.TEST.AUG.SCALES = (0.5, 1.0)
    yacs = MultiViewSegmentor(cfg, model)
    lazy = MultiViewSegmentor(
        model=model,
        scales=(0.5, 1.0),
        flip=True,
        window=(20, 24),
        stride=0.5,
        batch_size=3,
        blend="gaussian",
    )
    assert torch.equal(answer(yacs, make_image()), answer(lazy, make_image()))
    assert yacs.batch_size == 3
    # Without scales, Detectron2's own keys.
    cfg.TEST.AUG.SCALES = ()
    cfg.TEST.AUG.MIN_SIZES = (30, 90)
    cfg.TEST.AUG.MAX_SIZE = 100
    cfg.TEST.AUG.FLIP = False
    views = MultiViewSegmentor(cfg, model).views
    assert views.sizes((45, 58)) == [(30, 39), (78, 100)] and not views.flip


class LabelModel(nn.Module):
    def forward(self, batched_inputs):
        return [{"sem_seg": one["image"][0].long()} for one in batched_inputs]


def test_errors():
    with pytest.raises(ValueError, match="batch_size must be at least 1, got 0"):
        MultiViewSegmentor(model=make(), batch_size=0)
    with pytest.raises(ValueError, match="window must be 2 whole numbers"):
        MultiViewSegmentor(model=make(), window=(4,))
    wrapped = MultiViewSegmentor(model=LabelModel().eval(), flip=True)
    with pytest.raises(ValueError, match=r"logits to be averaged, got shape \(45, 58\)"):
        answer(wrapped, make_image())


@pytest.mark.parametrize(("meta", "kwargs"), KINDS)
@pytest.mark.parametrize("views", [{"flip": True}, {"window": (32, 40), "stride": (16, 20)}])
def test_views_are_divided_by_the_temperature_before_they_are_averaged(meta, kwargs, views):
    model, image = make(meta, **kwargs), make_image()
    model.sem_seg_head.temperature = 3.0
    logits = MultiViewSegmentor(model=model, return_logits=True, **views)
    found = answer(logits, image)
    # The same with the last layer divided, which gives such logits at once.
    other = make(meta, **kwargs)
    for value in other.sem_seg_head.alignment.predictor.parameters():
        value.data /= 3
    expected = answer(MultiViewSegmentor(model=other, return_logits=True, **views), image)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(found.exp().sum(dim=0), torch.ones(45, 58))
    labels = answer(MultiViewSegmentor(model=model, return_logits=False, **views), image)
    assert (labels == expected.argmax(dim=0)).float().mean() > 0.999
