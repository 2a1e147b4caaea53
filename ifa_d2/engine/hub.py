"""Models as folders and repositories of the Hugging Face Hub: weights, config, classes."""

import copy
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import safetensors.torch
import yaml
from detectron2.data import Metadata
from huggingface_hub import ModelHubMixin, hf_hub_download
from huggingface_hub.constants import CONFIG_NAME
from omegaconf import DictConfig

from ..files import atomic_path
from ..listing import join_some
from .export_metadata import model_metadata
from .run import load_config
from .saved_config import config_text

WEIGHTS, CONFIG = "model.safetensors", "config.yaml"
# Packages whose functions a config of someone else's may name.
_TRUSTED = re.compile(r"(ifa_d2|detectron2|timm|torch\.nn|torch\.optim)\.[\w.]+")


_CARD = """---
{{ card_data }}
---

A segmentation model of [ifa_d2](https://arxiv.org/abs/2206.08655), an implicit feature alignment
head: one forward pass, then labels at any size, window or point.

```python
import ifa_d2

predictor = ifa_d2.Predictor.from_pretrained("NAME/OF/THIS/REPOSITORY")
labels = predictor("picture.jpg").labels()
```

Data, its licence, training, metrics and limits: to be written by whoever trained it.
"""


class _NamesAsText(yaml.SafeLoader):
    """Reads the functions that a config names as their names, and imports nothing."""


_NamesAsText.add_multi_constructor(
    "tag:yaml.org,2002:python/name:", lambda loader, name, node: {"_target_": name}
)


class HubMixin(
    ModelHubMixin,
    model_card_template=_CARD,
    library_name="ifa_d2",
    pipeline_tag="image-segmentation",
    tags=["semantic-segmentation", "implicit-feature-alignment"],
):
    """Saving and loading of a :class:`ifa_d2.Predictor` for the Hugging Face Hub.

    A folder holds ``model.safetensors``, all weights, a frozen backbone's too; ``config.yaml``; and
    ``config.json``, which describes the classes, so that whoever loads the model need not register
    its data set. ``push_to_hub`` and the options of both are huggingface_hub's
    (https://huggingface.co/docs/huggingface_hub/package_reference/mixins).
    """

    cfg: DictConfig | None = None

    def _save_pretrained(self, save_directory: Path) -> None:
        """Write the files; those of an earlier model there are replaced.

        Raises:
            ValueError: a predictor that was not made of a config.
        """
        if self.cfg is None:
            raise ValueError(
                "save_pretrained needs the config that the model is built of: make the predictor "
                "by from_config, from_zoo or build"
            )
        cfg = copy.deepcopy(self.cfg)
        cfg.train.update(output_dir="", init_checkpoint="")  # places on this machine
        text, described = config_text(cfg, []), json.dumps(model_metadata(self), indent=1)
        weights = {name: value.contiguous() for name, value in self.model.state_dict().items()}
        with atomic_path(save_directory / WEIGHTS) as temporary:
            temporary.write_bytes(safetensors.torch.save(weights))
        for name, content in ((CONFIG, text), (CONFIG_NAME, described)):
            with atomic_path(save_directory / name) as temporary:
                temporary.write_text(content, encoding="utf-8")

    @classmethod
    def _from_pretrained(
        cls,
        *,
        model_id: str,
        revision: str | None,
        cache_dir: str | Path | None,
        force_download: bool,
        local_files_only: bool,
        token: str | bool | None,
        trust_remote_code: bool = False,
        overrides: Sequence[str] = (),
    ) -> "HubMixin":
        """Build the model of a folder or repository.

        Args:
            model_id: a folder, or a repository such as "name/model".
            revision, cache_dir, force_download, local_files_only, token: see ``hf_hub_download``.
            trust_remote_code: let the config name functions of any package.
            overrides: changes of the config, "key=value" each.

        Raises:
            FileNotFoundError: a folder without one of the files.
            ValueError: a config that names functions of packages that are not trusted.
        """
        files: dict[str, Path] = {}
        options = {"revision": revision, "cache_dir": cache_dir, "token": token}
        options |= {"force_download": force_download, "local_files_only": local_files_only}
        for name in (WEIGHTS, CONFIG, CONFIG_NAME):
            if Path(model_id).is_dir():
                files[name] = Path(model_id, name)
                if not files[name].is_file():
                    raise FileNotFoundError(
                        f"{files[name]} does not exist: a folder must have been written by "
                        "Predictor.save_pretrained"
                    )
                continue
            files[name] = Path(hf_hub_download(model_id, name, **options))
        if not trust_remote_code:
            _check_trusted(files[CONFIG])
        predictor = cls.build(load_config(str(files[CONFIG]), overrides), str(files[WEIGHTS]))
        described = json.loads(files[CONFIG_NAME].read_text(encoding="utf-8"))
        predictor.metadata = predictor.metadata or _described_classes(described)
        return predictor


def _described_classes(described: dict[str, Any]) -> Metadata | None:
    """Names and colours of classes; None where the model's own were not known."""
    if not described.get("classes"):
        return None
    metadata = Metadata(stuff_classes=described["classes"], ignore_label=described["ignore_value"])
    if described.get("colors"):
        metadata.set(stuff_colors=described["colors"])
    if described.get("nodata") is not None:
        metadata.set(nodata=described["nodata"])
    return metadata


def _check_trusted(path: Path) -> None:
    content = yaml.load(path.read_text(encoding="utf-8"), _NamesAsText)
    others = {str(name) for name in _targets(content) if not _TRUSTED.fullmatch(str(name))}
    if others:
        raise ValueError(
            f"{path} calls {join_some(sorted(others), 5)}, which is of none of the packages "
            "ifa_d2, detectron2, timm, torch.nn and torch.optim: read it, and pass "
            "trust_remote_code=True if you trust where it is from"
        )


def _targets(node: Any) -> Iterator[Any]:
    """All that a config calls or names."""
    if isinstance(node, dict):
        if "_target_" in node:
            yield node["_target_"]
        for value in node.values():
            yield from _targets(value)
    elif isinstance(node, list):
        for value in node:
            yield from _targets(value)
