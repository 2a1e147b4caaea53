"""Names that options and parameters are chosen from; importing them takes no time."""

BLENDS = ("constant", "gaussian")  # weights of windows where they overlap
DECODES = ("pixels", "grid")  # samples that an exported program evaluates
EXPORT_FORMATS = ("torchscript", "onnx", "torch.export")
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")
PLOT_SUFFIXES = (".png", ".pdf", ".svg")
PREDICTION_FORMATS = ("ids", "palette", "cityscapes", "probabilities")
FOLDER = "folder"  # of one's own, for tools/prepare_datasets.py
# Data sets whose files are made by tools/prepare_datasets.py, and how many images were published.
PREPARED_DATASETS = {
    "cityscapes": (2975, 500),
    "ade20k": (20210, 2000),
    "pascal_context": (4998, 5105),
    "camvid": (367, 101, 233),
    "crackforest": (89, 29),
    "cityscapes_panoptic": (2975, 500),
    "coco_panoptic": (118287, 5000),
}
