"""Object context against its definition, pixel by pixel."""

import torch

from ifa_d2.modeling.ocr import ObjectContext


def make(**kwargs) -> ObjectContext:
    return ObjectContext(6, 3, channels=8, **kwargs).eval()


def test_is_its_definition():
    module, x = make(key_channels=5), torch.randn(2, 6, 4, 5)
    with torch.no_grad():
        module.regions[1].weight.mul_(100)  # else all regions are the whole image
        (context, pixels), regions = module(x)
        for b in range(2):
            flat = pixels[b].flatten(1)  # (8, 20)
            weights = regions[b].flatten(1).softmax(dim=1)  # (3, 20)
            objects = [(weights[k] * flat).sum(dim=1) for k in range(3)]
            stacked = torch.stack(objects, dim=1)[None, :, :, None]  # (1, 8, 3, 1)
            keys, values = module.key(stacked)[0, :, :, 0], module.value(stacked)[0, :, :, 0]
            queries = module.query(pixels)[b].flatten(1)
            for i in range(20):
                scores = torch.stack([queries[:, i] @ keys[:, k] / 5**0.5 for k in range(3)])
                share = scores.softmax(dim=0)
                mixture = sum(share[k] * values[:, k] for k in range(3))
                expected = module.context(mixture[None, :, None, None]).flatten()
                torch.testing.assert_close(context[b].flatten(1)[:, i], expected)


def test_does_not_depend_on_other_pictures_or_on_the_order_of_pixels():
    module, x = make(), torch.randn(2, 6, 4, 6)
    module.pixels = torch.nn.Conv2d(6, 8, 1)  # a 3x3 convolution sees where pixels lie
    with torch.no_grad():
        (context, _), regions = module(x)
        (alone, _), _ = module(x[1:])
        torch.testing.assert_close(context[1:], alone)
        (flipped, _), other = module(x.flip(2, 3))
    torch.testing.assert_close(flipped.flip(2, 3), context)
    torch.testing.assert_close(other.flip(2, 3), regions)


def test_all_parameters_learn():
    module = make().train()
    levels, regions = module(torch.randn(2, 6, 4, 5))
    (sum(level.square().mean() for level in levels) + regions.square().mean()).backward()
    assert [level.shape for level in levels] == [(2, 8, 4, 5)] * 2
    assert regions.shape == (2, 3, 4, 5)
    assert all(p.grad is not None and p.grad.isfinite().all() for p in module.parameters())
