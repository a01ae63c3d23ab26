"""Slow, literal propagation: every context frame, every cell, a mask, one joint top-k.

The fast engine is compared with this, and `benchmarks/propagation.py` times the two.
"""

import torch


def window(h, w, shape, radius):
    """``[h*w, h*w]`` bool: may query cell i look at key cell j?"""
    y, x = torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij")
    dy = y.reshape(-1, 1) - y.reshape(1, -1)
    dx = x.reshape(-1, 1) - x.reshape(1, -1)
    if shape == "disc":
        return (dy**2 + dx**2).float().sqrt() < radius
    return (dy.abs() <= radius) & (dx.abs() <= radius)


def dense_topk(query, keys, labels, *, exempt, allowed, topk, temperature, keep_ties=False):
    """query ``[h, w, C]``; keys and labels: the literal context list, repeats included; the first `exempt` of them
    ignore the window. Returns ``[h, w, K]``."""
    h, w, c = query.shape
    sims = query.reshape(-1, c) @ torch.stack(keys).reshape(-1, c).t()  # [hw, N*hw]
    sims = sims.view(h * w, len(keys), -1)
    flat = torch.stack(labels).reshape(-1, labels[0].shape[-1])
    if keep_ties:
        return dino_readout(sims, allowed, flat, topk=topk, temperature=temperature).view(h, w, -1)
    sims[:, exempt:] += torch.where(allowed, 0.0, float("-inf"))[:, None]
    logits = sims.view(h * w, -1).div_(temperature)
    best, index = logits.topk(topk, dim=1)
    return (best.softmax(1)[..., None] * flat[index]).sum(1).view(h, w, -1)


def dino_readout(sims, allowed, flat, *, topk, temperature):
    """DINO's own order of operations (eval_video_segmentation.py label_propagation): exponential, window, the k-th
    largest, everything below it to 0, division by the sum. sims ``[hw, N, hw]``, flat labels ``[N*hw, K]``; ``[hw, K]``."""
    affinity = (torch.exp(sims / temperature) * allowed[:, None]).flatten(1)
    least = affinity.topk(topk, dim=1).values[:, -1:]
    affinity[affinity < least] = 0
    return (affinity / affinity.sum(1, keepdim=True)) @ flat


def crw_context(t, n):
    """CRW's literal list of true frames for target t."""
    return [0] + [max(0, j) for j in range(t - n, t)]


def vfs_context(t, n):
    return [0, *range(max(0, t - n), t)]


def dino_context(t, n):
    return [0, *range(max(1, t - n), t)]


def mast_context(t):
    i = t - 1
    return sorted({x for x in (0, 5) if x <= i} | {x for x in (i, i - 2, i - 4) if x > 0})
