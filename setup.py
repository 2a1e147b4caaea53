"""Packaging of ifa_d2."""

from pathlib import Path

from setuptools import find_packages, setup

setup(
    name="ifa_d2",
    version="0.1.0",
    description="Implicit feature alignment (IFA, ECCV 2022) as a Detectron2 segmentation head",
    long_description=(Path(__file__).parent / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.11",
    # Recipes and trained models lie in configs/ and zoo/ of the repository, and in ifa_d2/configs
    # and ifa_d2/zoo of an installation.
    packages=[*find_packages(include=["ifa_d2", "ifa_d2.*"]), "ifa_d2.configs", "ifa_d2.zoo"],
    package_dir={"ifa_d2.configs": "configs", "ifa_d2.zoo": "zoo"},
    package_data={
        "ifa_d2.configs": ["**/*.py", "**/*.yaml"],
        "ifa_d2.zoo": ["**/*.pth", "**/*.md"],
    },
    # What Detectron2 does not bring itself. Detectron2 and torch are not named: they come in builds
    # for one another that their user has chosen, and pip finds no Detectron2 under its own name.
    install_requires=[
        "cityscapesScripts",
        "numpy",
        "opencv-python",
        "safetensors",
        "scipy",
        "tifffile",
        "timm",
        "tqdm",
    ],
    extras_require={
        "page": ["anyio", "starlette", "uvicorn"],  # of projects/FieldPage
        "panoptic": ["panopticapi-lite"],  # of Detectron2's evaluator of panoptic quality
    },
    classifiers=[
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Topic :: Scientific/Engineering :: Image Recognition",
    ],
)
