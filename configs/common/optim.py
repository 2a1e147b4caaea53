"""SGD with the heads at ten times the backbone's rate, under the poly schedule (Sec. 4.1)."""

import torch
from detectron2.config import LazyCall as L

from ifa_d2.engine import get_optimizer_params, poly_schedule

optimizer = L(torch.optim.SGD)(
    # The trainer adds the model.
    params=L(get_optimizer_params)(base_lr="${..lr}", head_lr_factor=10.0),
    lr=0.01,
    momentum=0.9,
    weight_decay=5e-4,
)
lr_multiplier = L(poly_schedule)(max_iter="${train.max_iter}", power=0.9, warmup_iters=0)
# To learn from scratch in a few minutes: it needs fewer iterations.
adamw = L(torch.optim.AdamW)(
    params=L(get_optimizer_params)(base_lr="${..lr}", head_lr_factor=1.0, weight_decay_norm=0.0),
    lr=0.001,
    weight_decay=0.05,
)
