"""Checkpoints as common tools wrap them: what is stripped, what is chosen, and what is ambiguous."""

import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
import checkpoints

from corrbench.errors import Refusal
from corrbench.weights.convert import choose
from corrbench.weights.unwrap import candidates


def small(arch, seed=1):
    """Without layer4, which may be missing as a whole: a quarter of the tensors."""
    return {k: v for k, v in checkpoints.resnet(arch, seed).items() if not k.startswith("layer4.")}


R18, OTHER, R50 = small("resnet18"), small("resnet18", 2), small("resnet50")
FC = checkpoints.linear("fc", 10, 512)


def taken(raw, container=None, arch="resnet18"):
    fit, notes = choose(candidates(raw, Path("x.pth"), container), encoder={"arch": arch}, method="test", family=None)
    return fit, notes


def holds(fit, state):
    return all(torch.equal(fit.state_dict[k], v) for k, v in state.items())


@pytest.mark.parametrize(
    ("prefix", "stripped"),
    [
        ("module.", "module."),
        ("_orig_mod.", ""),
        ("module._orig_mod.", "module."),
        ("_orig_mod.module.", "module."),
        ("model.", "model."),
        ("backbone.", "backbone."),
        ("encoder.", "encoder."),
        ("model.backbone.", "model.backbone."),
        ("module.model.", "module.model."),
        ("network.", "network."),
        ("_forward_module.model.", "model."),
        ("_fsdp_wrapped_module.", ""),
        ("student.module.backbone.", "student.module.backbone."),
    ],
)
@pytest.mark.parametrize(
    "container", ["state_dict", "model", "model_state_dict", "net", "ema_state_dict", "teacher", None]
)
def test_prefixes_in_every_container(prefix, stripped, container):
    state = checkpoints.prefixed({**R18, **FC}, prefix)
    fit, notes = taken({container: state, "epoch": 3, "lr": [0.1]} if container else state)
    assert holds(fit, R18) and not notes
    assert (fit.candidate.container, fit.candidate.prefix) == (container, stripped)


def test_wrappers_inside_names():
    state = {
        f"_fsdp_wrapped_module.{k.replace('layer1.', 'layer1._fsdp_wrapped_module._orig_mod.')}": v
        for k, v in R18.items()
    }
    fit, _ = taken({"model": state})
    assert holds(fit, R18) and fit.candidate.wrappers == ("_fsdp_wrapped_module", "_orig_mod")


def test_heads_beside_the_prefix_are_counted():
    fit, _ = taken(
        {"state_dict": {**checkpoints.prefixed(R18, "model.backbone."), "model.head.weight": torch.zeros(2)}}
    )
    assert fit.counts["dropped"] == {"without the prefix model.backbone.": 1}


def test_one_gpu_files_of_known_families_keep_their_rules():
    state = {**checkpoints.prefixed(R50, "encoder_q."), **checkpoints.prefixed(small("resnet50", 2), "encoder_k."), "queue": torch.zeros(2)}  # fmt: skip
    fit, _ = taken({"state_dict": state}, arch="resnet50")
    assert holds(fit, R50) and fit.family.name == "moco"
    state = {**checkpoints.prefixed(R50, "encoder."), "predictor.0.weight": torch.zeros(2)}
    fit, _ = taken({"state_dict": state}, arch="resnet50")
    assert holds(fit, R50) and fit.family.name == "simsiam"


def test_what_stands_beside_the_usual_entry_is_noted():
    for name, other in (("state_dict", "state_dict_ema"), ("model", "model_ema"), ("model", "state_dict")):
        fit, notes = taken({other: OTHER, name: R18})
        assert holds(fit, R18) and f"--container {other} takes it" in notes[0]
        assert holds(taken({other: OTHER, name: R18}, other)[0], OTHER)
    assert taken({"state_dict": R18, "state_dict_ema": dict(R18)})[1] == []


def test_several_networks_are_refused_until_one_is_named():
    pair = {
        "student": checkpoints.prefixed(R18, "module.backbone."),
        "teacher": checkpoints.prefixed(OTHER, "backbone."),
    }
    with pytest.raises(Refusal, match=r"(?s)2 networks fit.*--container student or --container teacher \(DINO"):
        taken(pair)
    assert holds(taken(pair, "teacher")[0], OTHER) and holds(taken(pair, "student")[0], R18)
    flat = {f"{name}.{k}": v for name, state in pair.items() for k, v in state.items()}
    with pytest.raises(Refusal, match="2 networks fit, with different numbers"):
        taken(flat)
    assert holds(taken(flat, "teacher")[0], OTHER)
    same = {"student": checkpoints.prefixed(R18, "module.backbone."), "teacher": checkpoints.prefixed(R18, "backbone.")}
    assert holds(taken(same)[0], R18)
    with pytest.raises(Refusal, match="--container"):
        taken(pair, "tutor")


def test_a_teacher_of_another_size_is_no_rival():
    pair = {"student": R18, "teacher": R50}
    assert holds(taken(pair)[0], R18) and holds(taken(pair, arch="resnet50")[0], R50)


def test_a_damaged_network_is_not_passed_over():
    broken = {**R18, "bn1.bias": torch.full((64,), float("nan"))}
    for raw in ({"state_dict": broken, "state_dict_ema": R18}, {"net": R18, "ema": broken}):
        with pytest.raises(Refusal, match="bn1.bias holds values that are not finite"):
            taken(raw)
    assert holds(taken({"state_dict": R18, "state_dict_ema": broken})[0], R18)


def test_networks_deeper_inside_are_named():
    with pytest.raises(Refusal, match="--container state_dict.model"):
        taken({"state_dict": {"model": R18}})
    assert holds(taken({"state_dict": {"model": R18}}, "state_dict.model")[0], R18)
    with pytest.raises(Refusal, match="no tensors found"):
        taken([R18["conv1.weight"]])
    with pytest.raises(Refusal, match="no tensors found"):
        taken(R18["conv1.weight"])


def test_variances_of_zero_are_healthy():
    state = {k: v.clone() for k, v in R18.items()}
    state["layer1.0.bn1.running_var"][:5] = 0
    assert holds(taken(state)[0], state)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64, torch.float8_e4m3fn])
def test_floats_of_any_width_are_converted(dtype):
    fit, _ = taken({**R18, "conv1.weight": R18["conv1.weight"].to(dtype)})
    assert torch.equal(fit.state_dict["conv1.weight"], R18["conv1.weight"].to(dtype).float())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.to(torch.int32), "of type int32"),
        (lambda t: t > 0, "of type bool"),
        (lambda t: t.to(torch.complex64), "of type complex64"),
        (lambda t: t.to_sparse(), "sparse"),
        (lambda t: t.to("meta"), "without values"),
        (lambda t: torch.quantize_per_tensor(t, 0.1, 0, torch.qint8), "quantized"),
        (lambda t: t.double() * 1e300, "not finite"),
    ],
)
def test_tensors_that_are_no_weights(change, message):
    with pytest.raises(Refusal, match=f"conv1.weight .*{message}"):
        taken({**R18, "conv1.weight": change(R18["conv1.weight"])})
    with pytest.raises(Refusal, match="num_batches_tracked"):
        taken({**R18, "bn1.num_batches_tracked": torch.tensor(float("nan"))})
