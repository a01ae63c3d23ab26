"""Synthesise a checkpoint of every family from the naming rules, with the key structure of the released files."""

import argparse
import re
from functools import cache

import torch

from corrbench.encoders.build import random_tensors

HR = {"arch": "resnet18_hr", "position_map": True}


def resnet(arch, seed=1):
    """Random tensors under canonical names; running variances positive, counters set. The caller may change them."""
    return {name: value.clone() for name, value in drawn(arch, seed, TRAINABLE).items()}


TRAINABLE = False
"""True: the numbers of an untrained network, with which features stay finite; the names and shapes are the same."""


@cache
def drawn(arch, seed, trainable):
    state, _ = random_tensors({"arch": arch, "position_map": True}, seed)
    if trainable:
        return {k: torch.tensor(7) if k.endswith("num_batches_tracked") else v for k, v in state.items()}
    generator = torch.Generator().manual_seed(seed)
    out = {}
    for name, value in state.items():
        if name.endswith("num_batches_tracked"):
            out[name] = torch.tensor(7)
        elif name.endswith("running_var"):
            out[name] = torch.rand(value.shape, generator=generator) + 0.5
        else:
            out[name] = torch.randn(value.shape, generator=generator)
    return out


def prefixed(state, prefix):
    return {prefix + k: v for k, v in state.items()}


def linear(prefix, *shape):
    scale = 0.02 if TRAINABLE else 1.0
    return {f"{prefix}.weight": scale * torch.randn(*shape), f"{prefix}.bias": scale * torch.randn(shape[0])}


def batchnorm(prefix, width, affine=True):
    stats = {f"{prefix}.running_mean": torch.zeros(width), f"{prefix}.running_var": torch.ones(width), f"{prefix}.num_batches_tracked": torch.tensor(3)}  # fmt: skip
    return {
        **({f"{prefix}.weight": torch.ones(width), f"{prefix}.bias": torch.zeros(width)} if affine else {}),
        **stats,
    }


def mmcv(state):
    """torchvision names to mmcv's."""
    out = {}
    for key, value in state.items():
        name = re.sub(r"^conv1\.", "conv1.conv.", key)
        name = re.sub(r"^bn1\.", "conv1.bn.", name)
        name = re.sub(r"(layer\d\.\d+)\.conv(\d)\.", r"\1.conv\2.conv.", name)
        name = re.sub(r"(layer\d\.\d+)\.bn(\d)\.", r"\1.conv\2.bn.", name)
        name = name.replace("downsample.0.", "downsample.conv.").replace("downsample.1.", "downsample.bn.")
        out["backbone." + name] = value
    return out


def mast(state):
    out = {}
    for key, value in state.items():
        name = re.sub(r"^conv1\.", "conv1.0.", key)
        name = re.sub(r"^bn1\.", "conv1.1.", name)
        for old, new in (("conv1", "0"), ("bn1", "1"), ("conv2", "3"), ("bn2", "4")):
            name = re.sub(rf"(layer\d\.\d)\.{old}\.", rf"\1.left.{new}.", name)
        out["feature_extraction." + name.replace("downsample.", "shortcut.")] = value
    return out


def post():
    return linear("post_convolution", 64, 256, 3, 3)


def vfs_head(d, h):
    out = {"iteration": torch.tensor(5.0)}
    for i in (0, 3, 6):
        out |= linear(f"img_head.projection_fcs.{i}", d, d) | batchnorm(f"img_head.projection_fcs.{i + 1}", d)
    return (
        out
        | linear("img_head.predictor_fcs.0", h, d)
        | batchnorm("img_head.predictor_fcs.1", h)
        | linear("img_head.predictor_fcs.3", d, h)
    )


def build(case):
    """(checkpoint object, method row, canonical tensors, family, keys of extra)."""
    r18, r50, hr = resnet("resnet18"), resnet("resnet50"), resnet("resnet18_hr")
    selfsim = linear("selfsim_fc.0", 128, 512)
    if case == "mivos":
        stm = resnet("stm")
        assert len(stm) == 597
        return dict(stm), "mivos-s012", stm, "mivos", set()
    if case == "crw":
        args = argparse.Namespace(lr=1e-4)
        return (
            {"model": {**prefixed(r18, "encoder.model."), **selfsim}, "epoch": 24, "args": args},
            "crw-r18",
            r18,
            "crw",
            set(selfsim),
        )
    if case == "crw-old-spelling":
        pair = {re.sub(r"((?:layer\d\.\d\.)?conv\d)\.weight$", r"\1.1.weight", k): v for k, v in r18.items()}
        return {"model": {**prefixed(pair, "encoder.model."), **selfsim}}, "crw-r18", r18, "crw", set(selfsim)
    if case == "fc":
        heads = {}
        for head in ("online_projector", "target_projector", "predictor"):
            heads |= linear(f"{head}.linear1", 8, 4) | batchnorm(f"{head}.bn1", 8) | linear(f"{head}.linear2", 4, 8)
        model = {**prefixed(r18, "online_encoder."), **prefixed(resnet("resnet18", 2), "target_encoder."), **heads}
        assert len(model) == 267
        return (
            {"model": model, "optimizer": {}, "epoch": 19, "args": argparse.Namespace(seed=777)},
            "fc-r18",
            r18,
            "fc",
            set(),
        )
    if case == "moco":
        state = {**prefixed(r50, "module.encoder_q."), **linear("module.encoder_q.fc", 128, 2048), **prefixed(resnet("resnet50", 2), "module.encoder_k."),
                 **linear("module.encoder_k.fc", 128, 2048), "module.queue": torch.randn(128, 64), "module.queue_ptr": torch.zeros(1, dtype=torch.long)}  # fmt: skip
        return (
            {"epoch": 200, "arch": "resnet50", "state_dict": state, "optimizer": {}},
            "moco-v1-r50",
            r50,
            "moco",
            set(),
        )
    if case == "simsiam":
        fc = {"module.encoder.fc.0.weight": torch.randn(8, 8), "module.encoder.fc.3.weight": torch.randn(8, 8)}
        fc |= (
            batchnorm("module.encoder.fc.1", 8)
            | batchnorm("module.encoder.fc.4", 8)
            | linear("module.encoder.fc.6", 8, 8)
        )
        fc |= batchnorm("module.encoder.fc.7", 8, affine=False)
        predictor = (
            {"module.predictor.0.weight": torch.randn(4, 8)}
            | batchnorm("module.predictor.1", 4)
            | linear("module.predictor.3", 8, 4)
        )
        assert (len(fc), len(predictor)) == (17, 8)
        return (
            {"epoch": 100, "arch": "resnet50", "state_dict": {**prefixed(r50, "module.encoder."), **fc, **predictor}},
            "simsiam-r50",
            r50,
            "simsiam",
            set(),
        )
    if case == "pixpro":
        state = {**prefixed(r50, "module.encoder."), **prefixed(resnet("resnet50", 2), "module.encoder_k."), **linear("module.projector.linear1", 4, 4),
                 **linear("module.projector_k.linear1", 4, 4), **linear("module.value_transform", 4, 4)}  # fmt: skip
        return {"model": state}, "pixpro-r50", r50, "pixpro", set()
    if case in ("torchvision-r18", "torchvision-r50"):
        old = case == "torchvision-r18"  # the old files have no counters: 102 tensors with fc
        base, width, row = (r18, 512, "imagenet-r18") if old else (r50, 2048, "imagenet-r50")
        state = {k: v for k, v in base.items() if not (old and k.endswith("num_batches_tracked"))} | linear(
            "fc", 1000, width
        )
        assert len(state) == (102 if old else 320)
        canonical = {k: torch.tensor(0) if old and k.endswith("num_batches_tracked") else v for k, v in base.items()}
        return state, row, canonical, "torchvision", set()
    if case == "vfs-pretrain-r18":
        return {"state_dict": r18, "meta": {}}, "vfs-r18", r18, "vfs-pretrain", set()
    if case == "vfs-pretrain":
        return {"state_dict": r50, "meta": {}}, "vfs-r50", r50, "vfs-pretrain", set()
    if case in ("vfs-training-r18", "vfs-training-r50"):
        base, d, h, row, total = (
            (r18, 512, 128, "vfs-r18", 151) if case.endswith("r18") else (r50, 2048, 512, "vfs-r50", 349)
        )
        state = mmcv(base) | vfs_head(d, h)
        assert len(state) == total
        return {"meta": {"epoch": 100}, "state_dict": state, "optimizer": {}}, row, base, "vfs-training", set()
    if case == "vfs-tracking":
        head = linear("head.z_convs.0", 512, 512, 1, 1) | linear("head.x_convs.0", 512, 512, 1, 1)
        return {"meta": {}, "state_dict": mmcv(r18) | head}, "vfs-r18-object", r18, "vfs-tracking", set(head)
    if case == "vfs-tracking-r50":
        head = linear("head.z_convs.0", 2048, 2048, 1, 1) | linear("head.x_convs.0", 2048, 2048, 1, 1)
        return {"meta": {}, "state_dict": mmcv(r50) | head}, "vfs-r50-object", r50, "vfs-tracking", set(head)
    if case.startswith("liir"):
        state = (
            prefixed(hr, "feature_extraction.")
            | {"feature_extraction.pos_embed1": torch.randn(1, 64, 128, 128)}
            | post()
        )
        assert len(state) == 115 + 2
        keep = {"pos_embed1", *post()}
        if case in ("liir-compact", "liir-inter", "liir-full"):
            state |= {"conv_semantic.weight": torch.randn(128, 256, 3, 3), "conv_semantic.bias": torch.randn(128)}
            keep |= {"conv_semantic.weight", "conv_semantic.bias"}
        if case in ("liir-inter", "liir-full"):
            state |= {"conv_semantic_k.weight": torch.randn(128, 256, 3, 3), "conv_semantic_k.bias": torch.randn(128),
                      "colorizer.feats_queue": torch.randn(12, 128, 4, 4), "colorizer.refs_queue": torch.zeros(12), "colorizer.flag": torch.zeros(1)}  # fmt: skip
            keep |= {"conv_semantic_k.weight", "conv_semantic_k.bias"}
        return {"epoch": 29, "state_dict": state}, case, hr, "liir", keep
    if case == "moco-v2":
        heads = {k: v for n in ("encoder_q", "encoder_k") for i, d in ((0, 2048), (2, 128)) for k, v in linear(f"module.{n}.fc.{i}", d, 2048).items()}  # fmt: skip
        state = {**prefixed(r50, "module.encoder_q."), **prefixed(resnet("resnet50", 2), "module.encoder_k."), **heads,
                 "module.queue": torch.randn(128, 64), "module.queue_ptr": torch.zeros(1, dtype=torch.long)}  # fmt: skip
        return {"epoch": 800, "arch": "resnet50", "state_dict": state}, "moco-v2-r50", r50, "moco", set()
    if case == "timecycle":  # inflated: every convolution has a time axis; old, so without counters
        old = {k: v for k, v in r50.items() if not k.endswith("num_batches_tracked")}
        video = {k: v.unsqueeze(2) if v.ndim == 4 else v for k, v in old.items()}
        heads = linear("module.afterconv1", 4, 4) | linear("module.encoderVideo.fc", 4, 2048)
        canonical = {k: torch.tensor(0) if k.endswith("num_batches_tracked") else v for k, v in r50.items()}
        state = {**prefixed(video, "module.encoderVideo."), **heads}
        return {"epoch": 14, "state_dict": state}, "timecycle-r50", canonical, "timecycle", set()
    if case == "uvc":
        others = prefixed(resnet("resnet18", 2), "module.rgb_encoder.") | linear("module.nlm.conv", 4, 4)
        return {"state_dict": {**prefixed(r18, "module.gray_encoder."), **others}}, "uvc-r18", r18, "uvc", set()
    assert case == "mast"
    return {"epoch": 19, "state_dict": mast(hr) | post(), "optimizer": {}}, "mast", hr, "mast", set(post())


CASES = ["mivos", "crw", "crw-old-spelling", "fc", "moco", "simsiam", "pixpro", "torchvision-r18", "torchvision-r50", "vfs-pretrain", "vfs-training-r18",
         "vfs-training-r50", "vfs-tracking", "liir-ape", "liir-compact", "liir-inter", "liir-full", "mast", "moco-v2", "timecycle", "uvc"]  # fmt: skip
