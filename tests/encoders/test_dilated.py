import pytest
import torch
import torchvision

from corrbench.encoders.build import random_tensors
from corrbench.encoders.dilated import tracking_backbone


@pytest.mark.parametrize(("arch", "channels"), [("resnet18", 512), ("resnet50", 2048), ("resnet18_hr", 256)])
def test_map_sizes(arch, channels):
    net = tracking_backbone(arch, "layer4").eval()
    for pixels, cells in ((120, 15), (255, 32), (239, 30)):
        assert net(torch.zeros(1, 3, pixels, pixels)).shape == (1, channels, cells, cells)
    assert not any(p.requires_grad for p in net.parameters())


def test_resnet50_is_torchvisions_dilated_one():
    theirs = torchvision.models.resnet50(weights=None, replace_stride_with_dilation=[False, True, True]).eval()
    state = {k: v for k, v in theirs.state_dict().items() if not k.startswith("fc.")}
    ours = tracking_backbone("resnet50", "layer4").eval()
    ours.load_weights(state, {})
    x = torch.randn(1, 3, 120, 120, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        stem = theirs.maxpool(theirs.relu(theirs.bn1(theirs.conv1(x))))
        torch.testing.assert_close(ours(x), theirs.layer4(theirs.layer3(theirs.layer2(theirs.layer1(stem)))))


def test_basic_blocks_dilate_their_first_convolution_only():
    net = tracking_backbone("resnet18", "layer4")
    found = {
        name: (block.conv1.dilation[0], block.conv2.dilation[0], block.conv1.stride[0])
        for stage in ("layer2", "layer3", "layer4")
        for name, block in ((f"{stage}.{i}", b) for i, b in enumerate(getattr(net, stage)))
    }
    assert found == {
        "layer2.0": (1, 1, 2), "layer2.1": (1, 1, 1), "layer3.0": (1, 1, 1), "layer3.1": (2, 1, 1), "layer4.0": (2, 1, 1), "layer4.1": (4, 1, 1),
    }  # fmt: skip
    assert net.layer4[0].downsample[0].stride == (1, 1)


def test_padding_is_that_of_training():
    state, _ = random_tensors({"arch": "resnet18"}, 0)
    x = torch.randn(1, 3, 120, 120, generator=torch.Generator().manual_seed(0))
    maps = {}
    for padding in ("zeros", "reflect"):
        net = tracking_backbone("resnet18", "layer4", padding=padding).eval()
        net.load_weights(state, {})
        maps[padding] = net(x)
    wide = torch.nn.functional.pad(x, (3, 3, 3, 3), mode="reflect")
    assert torch.equal(net.conv1(x), torch.nn.functional.conv2d(wide, net.conv1.weight, stride=2))
    assert not torch.allclose(maps["zeros"], maps["reflect"])


def test_layer3_leaves_layer4_out_and_everything_else_is_strict():
    state, extra = random_tensors({"arch": "resnet18"}, 0)
    tracking_backbone("resnet18", "layer3").load_weights(state, extra)
    without = {k: v for k, v in state.items() if not k.startswith("layer4.")}
    tracking_backbone("resnet18", "layer3").load_weights(without, extra)
    with pytest.raises(RuntimeError, match="layer4"):
        tracking_backbone("resnet18", "layer4").load_weights(without, extra)
