"""Features inside a layer: every block of VFS's test_cfg.all_blocks."""

import pytest
import torch
import torchvision

from corrbench.encoders.build import build
from corrbench.errors import Refusal
from corrbench.rows import AllRows


@pytest.mark.parametrize(("method", "arch", "blocks"), [("vfs-r18", "resnet18", 2), ("vfs-r50", "resnet50", 6)])
def test_blocks_are_those_of_torchvision(method, arch, blocks):
    torch.manual_seed(0)
    theirs = getattr(torchvision.models, arch)(weights=None).eval()
    for module in (*theirs.layer3.modules(), *theirs.layer4.modules()):
        if getattr(module, "stride", None) == (2, 2):
            module.stride = (1, 1)
    state = {k: v for k, v in theirs.state_dict().items() if not k.startswith("fc.")}
    x = torch.randn(1, 3, 64, 48)
    rows = AllRows([]).methods
    with torch.no_grad():
        feature = theirs.layer2(theirs.layer1(theirs.maxpool(theirs.relu(theirs.bn1(theirs.conv1(x))))))
        for i in range(blocks):
            feature = theirs.layer3[i](feature)
            name = method if i == blocks - 1 else f"{method}-block{i}"
            net = build(rows.get(name, "test")["encoder"]).eval()
            net.load_weights(state, {})
            assert torch.equal(net(x), feature) and net.stride == 8
    encoder = {**rows.get(method, "test")["encoder"], "block": blocks}
    with pytest.raises(Refusal, match=f"block {blocks} of layer3"):
        build(encoder)
