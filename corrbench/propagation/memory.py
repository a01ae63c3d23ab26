"""What propagation remembers: features and labels of the frames that can still be in a context, and no others."""

from __future__ import annotations

import torch
from torch import Tensor

from corrbench.propagation.affinity import Exempt, topk_readout
from corrbench.propagation.context import context_frames, still_needed
from corrbench.propagation.protocol import Protocol
from corrbench.propagation.softmax import softmax_readout
from corrbench.propagation.tiles import Workspace


class Memory:
    """A fixed number of slots for features ``[h, w, C]`` and labels ``[h, w, K]``; its size does not grow with the video.

    Features lie as ``[h, w, S, C]``, the layout that `topk_readout` reads without a copy.
    """

    def __init__(self, protocol: Protocol, query: Tensor, labels: Tensor) -> None:
        self.protocol = protocol
        rule = protocol.context
        h, w, c = query.shape
        self._exempt_frame: tuple[Tensor, Tensor] | None = None
        held_apart = protocol.window.exempt_long_term
        slots = 1 + (rule.recent - 1) * rule.step + (0 if held_apart else len(rule.long_term))
        self._keys = query.new_empty(h, w, slots, c)
        self._labels = labels.new_empty(slots, h, w, labels.shape[2])
        self._slot: dict[int, int] = {}
        self.add(0, query, labels)

    def add(self, frame: int, features: Tensor, labels: Tensor) -> None:
        """Remember a frame and forget those that no later frame can look at."""
        rule = self.protocol.context
        if frame == 0 and self.protocol.window.exempt_long_term:
            self._exempt_frame = (features.contiguous(), labels)
            return
        for old in [f for f in self._slot if not still_needed(f, frame + 1, rule)]:
            del self._slot[old]
        slot = min(set(range(self._keys.shape[2])) - set(self._slot.values()))
        self._slot[frame] = slot
        self._keys[:, :, slot] = features
        self._labels[slot] = labels

    def read(self, t: int, query: Tensor, workspace: Workspace) -> Tensor:
        """Label scores ``[h, w, K]`` of frame t from its context."""
        protocol = self.protocol
        exempt = protocol.window.exempt_long_term
        frames = context_frames(t, protocol.context, exempt_long_term=exempt)
        if protocol.selection.topk is None:
            search = protocol.window.search
            ages = [t - f.index for f in frames]
            dilations = [min(search.max_dilation, age // search.after + 1) if search and age > search.after else 0
                         for age in ages]  # fmt: skip
            slots = [self._slot[f.index] for f in frames]
            return softmax_readout(
                query, [self._keys[:, :, s] for s in slots], [self._labels[s] for s in slots], dilations=dilations,
                window=protocol.window, selection=protocol.selection, compact=protocol.readout.compact,
                foreground_gain=protocol.readout.foreground_gain, workspace=workspace,
            )  # fmt: skip
        apart = []
        if self._exempt_frame is not None:
            keys, labels = self._exempt_frame
            first = frames.pop(0)
            apart.append(Exempt(keys, labels, everywhere=first.everywhere, inside=first.inside))
        # in slot order: when every slot is in use (the steady state) nothing is copied
        frames.sort(key=lambda f: self._slot[f.index])
        slots = [self._slot[f.index] for f in frames]
        whole = slots == list(range(len(slots)))
        index = slice(0, len(slots)) if whole else torch.tensor(slots, device=query.device)
        return topk_readout(
            query, self._keys[:, :, index], self._labels[index], copies=[f.inside for f in frames], exempt=apart,
            window=protocol.window, selection=protocol.selection, workspace=workspace,
        )  # fmt: skip
