"""How pictures are shown to the model when it is evaluated; training does not read it.

What each means: ``ifa_d2.modeling.MultiViewSegmentor``. The scales are those of the paper for
PASCAL Context and ADE20K.
"""

inference = dict(
    # Average over the scales and, with flip, their mirror images; else the picture alone is taken.
    tta=False,
    scales=(0.5, 0.75, 1.0, 1.25, 1.5, 1.75),
    flip=True,
    # (height, width) in pixels of the scaled picture, with or without tta; None is no windows.
    window=None,
    # From one window to the next: a fraction of its side, or a whole number of pixels.
    stride=2 / 3,
    # What windows weigh where they overlap: "constant", "gaussian", or None, which is constant.
    blend=None,
    # Windows, and mirror images, in one pass.
    batch_size=1,
)
