import pytest
import torch

from corrbench.encoders.stm import STM, widen


@pytest.mark.parametrize(("planes", "parameters"), [(5, 53_685_953), (4, 53_682_817)])
def test_parameters_of_the_reference(planes, parameters):
    net = STM(planes)
    assert sum(p.numel() for p in net.parameters()) == parameters
    assert len(net.state_dict()) == 597


def test_key_patterns_of_the_reference():
    state = STM().state_dict()
    shapes = {
        "mask_rgb_encoder.conv1.weight": (64, 5, 7, 7), "mask_rgb_encoder.conv1.bias": (64,), "mask_rgb_encoder.layer3.5.conv3.bias": (1024,),
        "mask_rgb_encoder.layer1.0.downsample.0.bias": (256,), "rgb_encoder.conv1.weight": (64, 3, 7, 7), "rgb_encoder.res2.0.conv1.weight": (64, 64, 1, 1),
        "kv_m_f16.key_proj.weight": (128, 1024, 3, 3), "kv_q_f16.val_proj.bias": (512,), "decoder.compress.downsample.weight": (512, 1024, 3, 3),
        "decoder.up_16_8.out_conv.downsample.weight": (256, 512, 3, 3), "decoder.up_8_4.skip_conv2.conv2.bias": (256,), "decoder.pred.weight": (1, 256, 3, 3),
    }  # fmt: skip
    assert {name: tuple(state[name].shape) for name in shapes} == shapes
    for absent in (
        "rgb_encoder.conv1.bias",
        "rgb_encoder.layer1.0.conv1.weight",
        "decoder.up_8_4.out_conv.downsample.weight",
    ):
        assert absent not in state
    assert (
        sum(name.startswith("decoder.") for name in state) == 30
    )  # the correspondence network is the same without them: 567


def test_shapes_and_broadcast():
    net = STM().eval()
    image, masks = torch.randn(1, 3, 32, 48), torch.rand(2, 1, 32, 48)
    with torch.no_grad():
        keys, values = net.memorize(image, masks)
        query = net.query(image)
        logits = net.decode(values, query)
        one = net.decode(values[:1], query)
    assert keys.shape == (2, 128, 2, 3) and values.shape == (2, 512, 2, 3)
    assert query.f8.shape == (1, 512, 4, 6) and query.f4.shape == (1, 256, 8, 12)
    assert logits.shape == (2, 1, 32, 48)
    torch.testing.assert_close(logits[:1], one, rtol=1e-4, atol=1e-5)


def test_others_are_the_plain_sum():
    net = STM().eval().double()  # the sums are the same; only their rounding is not
    image, masks = torch.randn(1, 3, 32, 32).double(), torch.rand(3, 1, 32, 32).double()
    with torch.no_grad():
        all_three = net.memorize(image, masks)[0][1:2]
        others = masks[:1] + masks[2:]
        torch.testing.assert_close(all_three, net.memorize_with(image, masks[1:2], others)[0])


def test_batch_norm_never_trains_but_its_weights_do():
    net = STM(4).train()
    before = {k: v.clone() for k, v in net.state_dict().items() if "running" in k}
    net.memorize(torch.randn(1, 3, 32, 32), torch.rand(1, 1, 32, 32))[0].sum().backward()
    assert all(torch.equal(v, net.state_dict()[k]) for k, v in before.items())
    assert net.mask_rgb_encoder.bn1.weight.grad is not None


def test_new_input_channels_are_orthogonal():
    state = STM(4).state_dict()
    wide = widen(state, 5, torch.Generator().manual_seed(0))
    STM(5).load_state_dict(wide)
    name = "mask_rgb_encoder.conv1.weight"
    assert torch.equal(wide[name][:, :4], state[name])
    new = wide[name][:, 4].flatten(1)
    gram = new.T @ new  # 64 rows, 49 columns: columns are orthonormal
    torch.testing.assert_close(gram, torch.eye(49), atol=1e-4, rtol=0)
