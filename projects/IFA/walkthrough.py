#!/usr/bin/env python
"""Train a small model, and ask a picture's field at sizes, windows and points.

A script in cells, for an editor that runs "# %%" cells, or as a whole:

python projects/IFA/walkthrough.py --iterations 800 --output walkthrough

Without an argument it takes 300 iterations, some minutes on two CPU cores.
"""

# %% Settings
import argparse
import sys
from pathlib import Path

import cv2
import matplotlib
import numpy as np

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from detectron2.data import DatasetCatalog, MetadataCatalog

from ifa_d2 import Predictor
from ifa_d2.data import read_picture
from ifa_d2.engine import Trainer
from ifa_d2.engine.run import load_config, setup_run
from ifa_d2.visualization import contact_sheet, draw_points, draw_segmentation, save_png

parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
)
parser.add_argument(
    "--config-file",
    default="shapes/ifa_r18.py",
    metavar="FILE",
    help="recipe, a .py file or its name (default: %(default)s)",
)
parser.add_argument(
    "--dataset",
    default="shapes_val",
    metavar="NAME",
    help="data set of the pictures (default: %(default)s)",
)
parser.add_argument(
    "--iterations", type=int, default=300, metavar="N", help="of training (default: 300)"
)
parser.add_argument(
    "--output",
    type=Path,
    default=Path("output/walkthrough"),
    metavar="DIR",
    help="folder for the pictures and the training (default: %(default)s)",
)
parser.add_argument("opts", nargs="*", metavar="key=value", help="change the config")
# In a cell, where the command line is Jupyter's, these are the defaults.
args = parser.parse_args([] if "ipykernel" in sys.modules else None)

# %% [markdown]
# ## Train
# The recipe is a LazyConfig. It asks at points anywhere in the picture, and four cells around a
# point are blended: a field that is to be asked anywhere is trained anywhere.

# %%
overrides = [
    f"train.max_iter={args.iterations}",
    f"train.output_dir={args.output / 'training'}",
    *args.opts,
]
cfg = load_config(args.config_file, overrides)
setup_run(cfg)
trainer = Trainer(cfg)
trainer.resume_or_load(resume=False)
trainer.train()

losses = trainer.storage.history("total_loss").values()
figure, axes = plt.subplots(figsize=(6, 3), layout="constrained")
axes.plot([iteration for _, iteration in losses], [loss for loss, _ in losses], marker=".")
axes.set(xlabel="iteration", ylabel="loss", title=args.config_file)
figure.savefig(args.output / "1_training.png", dpi=120)
plt.close(figure)

# %% [markdown]
# ## A picture becomes a field
# The backbone runs once. What it gives is held, and asked afterwards.

# %%
predictor = Predictor.from_config(
    args.config_file, str(args.output / "training" / "model_final.pth"), overrides
)
metadata = MetadataCatalog.get(args.dataset)
record = DatasetCatalog.get(args.dataset)[0]
image = read_picture(record["file_name"])  # RGB
field = predictor(np.ascontiguousarray(image[:, :, ::-1]))  # BGR, as DefaultPredictor
height, width = field.image_size
print(f"{record['file_name']}: {height} x {width} pixels, {field.num_classes} classes")


def drawn(labels: np.ndarray, shown: np.ndarray, panel_width: int = 480) -> np.ndarray:
    """Draw labels over their picture, both enlarged to a panel."""
    shown = cv2.resize(shown, labels.shape[::-1], interpolation=cv2.INTER_CUBIC)
    panel = draw_segmentation(shown, labels, metadata, names=False)
    size = (panel_width, max(1, round(panel_width * labels.shape[0] / labels.shape[1])))
    return cv2.resize(panel, size, interpolation=cv2.INTER_NEAREST)


# %% [markdown]
# ## Any size
# A sample every 8 pixels, every 2 pixels, each pixel, and four by four in a pixel. The borders of
# things get their place from the field, not from an interpolation of coarse logits.

# %%
sizes = [
    (max(1, round(height * zoom)), max(1, round(width * zoom))) for zoom in (1 / 8, 1 / 2, 1, 4)
]
panels = [drawn(field.labels(size).numpy(), image) for size in sizes]
save_png(args.output / "2_sizes.png", contact_sheet(panels, columns=2))

# %% [markdown]
# ## A window, ever closer
# Windows are (y0, x0, y1, x1) in pixels. Only the window is decoded: 16 samples a pixel of a
# quarter of the picture cost as much as 4 of the whole.

# %%
panels = []
for closer in (1, 2, 4, 8):
    side_y, side_x = max(2, height // closer), max(2, width // closer)
    y0, x0 = (height - side_y) // 2, (width - side_x) // 2
    window = (y0, x0, y0 + side_y, x0 + side_x)
    labels = field.labels((side_y * 2 * closer, side_x * 2 * closer), window).numpy()
    panels.append(drawn(labels, image[y0 : y0 + side_y, x0 : x0 + side_x]))
    print(f"window {window}: {labels.shape[0]} x {labels.shape[1]} samples")
save_png(args.output / "3_windows.png", contact_sheet(panels, columns=2))

# %% [markdown]
# ## Points
# Logits at any (y, x) in [0, 1]: what an annotation tool or a tracker would ask.

# %%
points = np.random.default_rng(0).random((200, 2))
answers = field.at(points).argmax(dim=1).numpy()
scale = max(1, round(720 / width))
save_png(args.output / "4_points.png", draw_points(image, points, answers, metadata, scale=scale))

# %% [markdown]
# ## How sure
# Probabilities at the pixels; the darker, the less the best class leads.

# %%
best = field.probabilities().max(dim=0).values.numpy()
sure = np.repeat((255 * best).astype(np.uint8)[:, :, None], 3, axis=2)
panels = [drawn(field.labels().numpy(), image), cv2.resize(sure, (480, panels[0].shape[0]))]
save_png(args.output / "5_confidence.png", contact_sheet(panels, columns=2))

# %% [markdown]
# ## Where to ask at all
# Refinement asks a grid four times coarser, and the fine one only where that leaves a doubt.

# %%
size = (2 * height, 2 * width)
exact, refined = field.labels(size), field.refined_labels(size)
same = float((exact == refined).float().mean())
print(f"refined labels agree with all samples asked on {100 * same:.2f} % of {size}")
print(f"pictures in {args.output}")
