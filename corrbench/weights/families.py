"""The checkpoint families: how each source file names its tensors.

One row per family. Families are recognized by key patterns, never by file names. Every key of a file must be taken,
kept as extra or dropped for a stated reason; anything else is an error. Sources are given per row.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from corrbench.errors import Refusal, nearest


@dataclass(frozen=True)
class Family:
    """Naming rules of one family. Patterns are matched at the start of a key; the first that matches wins."""

    name: str
    source: str
    container: tuple[str | None, ...]
    """Entries of the outer dictionary that hold the tensors in the source's own files; None is the file itself."""
    signature: tuple[str, ...]
    """Patterns that must each match some key."""
    absent: tuple[str, ...] = ()
    """Patterns that must match no key."""
    take: tuple[tuple[str, str], ...] = ()
    """(pattern, replacement): encoder tensors and their torchvision names."""
    extra: tuple[tuple[str, str], ...] = ()
    """(pattern, replacement): other tensors worth keeping."""
    drop: tuple[tuple[str, str], ...] = ()
    """(pattern, reason): tensors that the encoder does not need."""
    arch: str | None = None
    """The family's only network; None: ResNet-18 or ResNet-50, from the keys."""
    flat: bool = False
    """True: convolutions may be kept with a time axis of one frame, which is taken away."""
    elsewhere: bool = True
    """Whether tensors of this family may also stand in another entry; False where the entry alone tells two families apart."""


_RESNET = r"(?P<name>(conv1|bn1|layer[1-4]\.\d+\.(conv\d|bn\d|downsample\.[01]))\.\w+)$"
_MMCV = (
    (r"backbone\.conv1\.conv\.(\w+)$", r"conv1.\1"),
    (r"backbone\.conv1\.bn\.(\w+)$", r"bn1.\1"),
    (r"backbone\.(layer\d\.\d+)\.conv(\d)\.conv\.(\w+)$", r"\1.conv\2.\3"),
    (r"backbone\.(layer\d\.\d+)\.conv(\d)\.bn\.(\w+)$", r"\1.bn\2.\3"),
    (r"backbone\.(layer\d\.\d+)\.downsample\.conv\.(\w+)$", r"\1.downsample.0.\2"),
    (r"backbone\.(layer\d\.\d+)\.downsample\.bn\.(\w+)$", r"\1.downsample.1.\2"),
)
_POST = (r"(post_convolution\.\w+)$", r"\1")

FAMILIES: tuple[Family, ...] = (
    Family(
        "crw", "ajabri/videowalk pretrained.pth, code/model.py", ("model",),
        signature=(r"encoder\.model\.conv1\.",),
        # the older spelling has a (pad, conv) pair for padded convolutions: conv1.1.weight, layer1.0.conv1.1.weight
        take=((r"encoder\.model\.((?:layer\d\.\d+\.)?conv\d)\.1\.(weight)$", r"\1.\2"),
              (r"encoder\.model\." + _RESNET, r"\g<name>")),
        extra=((r"(selfsim_fc\.\d+\.\w+)$", r"\1"),),
        drop=((r"encoder\.model\.fc\.", "classifier of the backbone"),),
    ),
    Family(
        "fc", "Alxead/SFC pretrained_fc.pth, code/models/fine_grained.py", ("model",),
        signature=(r"online_encoder\.conv1\.",),
        take=((r"online_encoder\." + _RESNET, r"\g<name>"),),
        drop=((r"target_encoder\.", "momentum encoder, not the one that is evaluated"),
              (r"(online_projector|target_projector|predictor)\.", "training head")),
    ),
    Family(
        "moco", "facebookresearch/moco moco_v1_200ep_pretrain.pth.tar", ("state_dict",),
        signature=(r"(?:module\.)?encoder_q\.conv1\.",),
        take=((r"(?:module\.)?encoder_q\." + _RESNET, r"\g<name>"),),
        drop=((r"(?:module\.)?encoder_q\.fc\.", "training head"), (r"(?:module\.)?encoder_k\.", "momentum encoder"),
              (r"(?:module\.)?queue(_ptr)?$", "queue of negatives")),
    ),
    Family(
        "simsiam", "facebookresearch/simsiam checkpoint_0099.pth.tar", ("state_dict",),
        signature=(r"(?:module\.)?encoder\.conv1\.", r"(?:module\.)?predictor\."),
        take=((r"(?:module\.)?encoder\." + _RESNET, r"\g<name>"),),
        drop=((r"(?:module\.)?encoder\.fc\.", "projector"), (r"(?:module\.)?predictor\.", "predictor")),
    ),
    Family(
        "pixpro", "zdaxie/PixPro pixpro_base_r50_400ep_md5_919c6612.pth", ("model",),
        signature=(r"(?:module\.)?encoder\.conv1\.", r"(?:module\.)?encoder_k\."),
        take=((r"(?:module\.)?encoder\." + _RESNET, r"\g<name>"),),
        drop=((r"(?:module\.)?encoder_k\.", "momentum encoder"), (r"(?:module\.)?projector(_k)?\.", "training head"),
              (r"(?:module\.)?value_transform\.", "training head")),
    ),
    Family(
        "torchvision", "torchvision resnet18/resnet50 V1 files", (None,),
        signature=(r"conv1\.weight$", r"layer1\.0\.conv1\.weight$"),
        take=((_RESNET, r"\g<name>"),),
        drop=((r"fc\.(weight|bias)$", "classifier"),),
    ),
    Family(
        "vfs-pretrain", "xvjiarui/VFS tools/convert_weights/convert_to_pretrained.py", ("state_dict",),
        signature=(r"conv1\.weight$", r"layer1\.0\.conv1\.weight$"),
        take=((_RESNET, r"\g<name>"),),
        drop=((r"fc\.(weight|bias)$", "classifier"),),
        elsewhere=False,
    ),
    Family(
        "vfs-training", "xvjiarui/VFS epoch_*.pth", ("state_dict",),
        signature=(r"backbone\.conv1\.conv\.", r"img_head\."),
        take=_MMCV,
        drop=((r"img_head\.", "training head"), (r"iteration$", "step counter")),
    ),
    Family(
        "vfs-tracking", "xvjiarui/VFS projects/siamfc-pytorch", ("state_dict",),
        signature=(r"backbone\.conv1\.conv\.", r"head\.[zx]_convs\."),
        take=_MMCV,
        extra=((r"(head\.[zx]_convs\.0\.(?:weight|bias))$", r"\1"),),
    ),
    Family(
        "liir", "shasha521/LIIR_pytorch *.pt, models/{mast_semantic,mast_momen,resnet}.py", ("state_dict",),
        signature=(r"feature_extraction\.conv1\.weight$", r"post_convolution\."),
        take=((r"feature_extraction\." + _RESNET, r"\g<name>"),),
        extra=((r"feature_extraction\.(pos_embed1)$", r"\1"), _POST,
               (r"(conv_semantic(?:_k)?\.(?:weight|bias))$", r"\1")),
        drop=((r"colorizer\.(feats_queue|refs_queue|flag)$", "queue of the inter-video loss"),),
        arch="resnet18_hr",
    ),
    Family(
        "mast", "zlai0/MAST checkpoint_epoch_*.pt, models/{mast,submodule}.py", ("state_dict",),
        signature=(r"feature_extraction\.conv1\.0\.weight$", r"post_convolution\."),
        take=((r"feature_extraction\.conv1\.0\.(\w+)$", r"conv1.\1"),
              (r"feature_extraction\.conv1\.1\.(\w+)$", r"bn1.\1"),
              (r"feature_extraction\.(layer\d\.\d)\.left\.0\.(\w+)$", r"\1.conv1.\2"),
              (r"feature_extraction\.(layer\d\.\d)\.left\.1\.(\w+)$", r"\1.bn1.\2"),
              (r"feature_extraction\.(layer\d\.\d)\.left\.3\.(\w+)$", r"\1.conv2.\2"),
              (r"feature_extraction\.(layer\d\.\d)\.left\.4\.(\w+)$", r"\1.bn2.\2"),
              (r"feature_extraction\.(layer[23]\.0)\.shortcut\.([01])\.(\w+)$", r"\1.downsample.\2.\3")),
        extra=(_POST,),
        arch="resnet18_hr",
    ),
    Family(
        "timecycle", "xiaolonw/TimeCycle checkpoint; ajabri/videowalk code/utils/__init__.py load_tc_model", ("state_dict",),
        signature=(r"(?:module\.)?encoderVideo\.conv1\.",),
        take=((r"(?:module\.)?encoderVideo\." + _RESNET, r"\g<name>"),),
        drop=((r"(?:module\.)?encoderVideo\.fc\.", "classifier of the backbone"),
              (r"(?!(?:module\.)?encoderVideo\.)", "training head")),
        flat=True,
    ),
    Family(
        "uvc", "Liusifei/UVC checkpoint; ajabri/videowalk code/utils/__init__.py load_uvc_model", ("state_dict",),
        signature=(r"(?:module\.)?gray_encoder\.conv1\.",),
        take=((r"(?:module\.)?gray_encoder\." + _RESNET, r"\g<name>"),),
        drop=((r"(?!(?:module\.)?gray_encoder\.)", "encoder of colors, decoder and training heads"),),
    ),
    Family(
        "mivos", "hkchengrex/Mask-Propagation propagation_model.pth, model/{network,modules}.py", (None,),
        signature=(r"mask_rgb_encoder\.conv1\.", r"decoder\.pred\."),
        take=((r"((?:mask_rgb_encoder|rgb_encoder|kv_[mq]_f16|decoder)\..+)$", r"\1"),),
        arch="stm",
    ),
)  # fmt: skip


def _matches(patterns: Iterable[str], keys: Iterable[str]) -> bool:
    keys = list(keys)
    return all(any(re.match(pattern, key) for key in keys) for pattern in patterns)


def fitting(keys: Iterable[str], container: str | None) -> list[Family]:
    """The families whose patterns fit: those that keep their tensors in this entry, or if there are none those of other entries."""
    keys = list(keys)
    found = [f for f in FAMILIES if _matches(f.signature, keys)]
    return [f for f in found if container in f.container] or [f for f in found if f.elsewhere]


def prefixes(keys: Iterable[str]) -> list[str]:
    """What may stand before the names of a family: ``module.backbone.`` where a key is ``module.backbone.conv1.weight``.

    Short ones first. A prefix inside another one is left out: what a family's names wrap is that family's own.
    """
    found = set()
    for signature in {f.signature[0] for f in FAMILIES}:
        pattern = re.compile(rf"(?:^|(?<=\.))(?:{signature})")
        found |= {key[: m.start()] for key in keys if (m := pattern.search(key))}
    return sorted(found, key=lambda p: (len(p), p))


def detect(keys: Iterable[str], container: str | None) -> Family:
    """The one family whose patterns fit. Raises Refusal when none or several do."""
    keys = list(keys)
    found = fitting(keys, container)
    if len(found) == 1:
        return found[0]
    place = f"entry {container!r}" if container else "the top level"
    sample = ", ".join(keys[:4]) or "no tensors"
    names = ", ".join(f.name for f in (found or FAMILIES))
    if found:
        raise Refusal(
            f"the keys of {place} fit several checkpoint families: {names}",
            expected="exactly one",
            do="export only the encoder under its own names",
        )
    raise Refusal(
        f"the keys of {place} fit no known checkpoint family; they begin {sample}",
        expected=f"one of {names}",
        do="rename its tensors to those of a family (docs/weights.md), or add a family to corrbench/weights/families.py",
    )


def family(name: str) -> Family:
    """Look a family up by name."""
    for candidate in FAMILIES:
        if candidate.name == name:
            return candidate
    raise Refusal(
        f"unknown checkpoint family {name!r}",
        expected=nearest(name, [f.name for f in FAMILIES]),
        do="correct `family:` in the method's row",
    )
