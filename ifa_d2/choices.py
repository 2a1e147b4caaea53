"""Names that options and parameters are chosen from; importing them takes no time."""

BLENDS = ("constant", "gaussian")  # weights of windows where they overlap
DECODES = ("pixels", "grid")  # samples that an exported program evaluates
EXPORT_FORMATS = ("torchscript", "onnx", "torch.export")
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")
PLOT_SUFFIXES = (".png", ".pdf", ".svg")
PREDICTION_FORMATS = ("ids", "palette", "cityscapes", "probabilities")
FOLDER = "folder"  # of one's own, for tools/prepare_datasets.py
# Data sets whose files are made by tools/prepare_datasets.py.
PREPARED_DATASETS = (
    *("cityscapes", "ade20k", "pascal_context", "camvid", "crackforest"),
    *("cityscapes_panoptic", "coco_panoptic"),
)
