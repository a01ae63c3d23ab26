"""What a run will cost on this machine, measured with one step before it starts."""

from __future__ import annotations

import time
from collections.abc import Iterator

import torch

from corrbench.machine import peak_memory_mb
from corrbench.pretraining.loop import Run
from corrbench.pretraining.order import LOAD, STEP, StepData, collate, stream


def cost_lines(run: Run, workers: int) -> Iterator[str]:
    """Steps, samples, hours, memory, disk and what the loader must do. The network is as before when it returns."""
    recipe, p = run.recipe, run.processes
    left = run.total - run.step
    yield f"{recipe.name}, tier {recipe.tier}, seed {run.seed}: {run.total} steps of {recipe.batch} samples, {run.order.steps} steps per epoch"
    data = StepData(run.order, run.reader)
    keys = run.order.positions(run.step % run.total, p.rank, p.world)
    start = time.perf_counter()
    few = [data[key] for key in keys[: max(2, min(len(keys), 8))]]
    per_sample = (time.perf_counter() - start) / len(few)
    batch = collate([few[i % len(few)] for i in range(len(keys))])
    images = sum(v[0].numel() // (v.shape[-3] * v.shape[-1] * v.shape[-2]) for v in batch.values() if v.ndim >= 4)
    before = {name: value.detach().cpu().clone() for name, value in run.model.state_dict().items()}
    seconds = min(step_seconds(run, batch) for _ in range(2 if p.device.type == "cuda" else 1))
    run.model.load_state_dict(before)
    whole = seconds * left
    of_gpus = f" ({whole / 3600 * p.world:.1f} GPU-hours)" if p.device.type == "cuda" else ""
    said = f"{whole:.0f} s" if whole < 120 else f"{whole / 60:.0f} min" if whole < 7200 else f"{whole / 3600:.1f} hours"
    yield f"  {len(keys) * images * p.world} images a step, {seconds:.2f} s a step: about {said}{of_gpus} for the {left} steps to go"
    needed = per_sample * len(keys) / seconds
    given = f"{workers} workers" if workers else "none beside the training process"
    yield f"  loader: {1 / per_sample:.1f} samples/s per core; {needed:.1f} cores per process keep up with it ({given})"
    size = sum(v.numel() * v.element_size() for v in before.values())
    moments = {"adam": 2, "sgd": 1}[recipe.optimizer["kind"]]
    learned = sum(q.numel() * 4 for q in run.model.parameters() if q.requires_grad)
    yield f"  disk: {(size + moments * learned) / 2**20:.0f} MB to go on from (twice that while it is written)"
    if p.device.type == "cuda":
        yield f"  memory: {torch.cuda.max_memory_allocated() / 2**30:.1f} GiB of the GPU"
    else:
        yield f"  memory: {peak_memory_mb():.0f} MB"


def step_seconds(run: Run, batch: dict[str, torch.Tensor]) -> float:
    """Seconds of one forward and backward pass with a collated batch; gradients are cleared, the optimizer does not move."""
    p = run.processes
    start = time.perf_counter()
    on_device = {name: value.to(p.device) for name, value in batch.items() if name != "replaced"}
    generator = torch.Generator().manual_seed(int(stream(STEP, LOAD).integers(2**63)))
    run.net.train()
    with torch.autocast(p.device.type, torch.bfloat16, enabled=run.recipe.precision == "bf16"):
        loss = run.net(on_device, generator)["loss"]
    loss.backward()
    run.optimizer.zero_grad(set_to_none=True)
    if p.device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start
