"""Pretrain one recipe at one tier; goes on where an interrupted run saved.

python -m scripts.pretrain --recipe crw --tier short --data frames/index.csv --root frames --out runs/crw
torchrun --nproc-per-node 2 -m scripts.pretrain ...      (several GPUs)
The folder gets log.jsonl and last.pt (to go on from), at the end checkpoint.pth (as the reference's code writes it),
recipe.json and curves.png. SIGTERM and SIGUSR1 save; a run of one process then exits with status 75.
"""

import argparse
import signal
import sys
from contextlib import nullcontext

import torch

from corrbench.datasets.clips import link_roots
from corrbench.datasets.videos import Index, Reader
from corrbench.errors import Refusal, run_program
from corrbench.files import file_hash, json_option, path_options, save_tensors, write_record
from corrbench.machine import pick_device
from corrbench.outputs import claim, remove_temporaries
from corrbench.pretraining.cost import cost_lines
from corrbench.pretraining.curves import plot_curves, read_log, waiting_share
from corrbench.pretraining.loop import STOPPED, Pace, Run, Stopped
from corrbench.pretraining.processes import Processes
from corrbench.pretraining.recipe import TIERS, Recipe, pretrain_code
from corrbench.pretraining.saved import LOG, refuse_foreign
from corrbench.pretraining.watching import Watch
from corrbench.provenance import device_name, libraries
from corrbench.reading import natural_number, positive, user_path
from corrbench.rows import AllRows
from corrbench.weights.trained import HASH, read_start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--recipe", help="row of config/recipes/")
    which.add_argument("--settings", help="JSON of the recipe at its tier (used by the workflow)")
    parser.add_argument("--rows", type=user_path, nargs="*", default=[], help="further folders with recipes/ rows")
    parser.add_argument("--tier", choices=TIERS, default="smoke")
    parser.add_argument("--seed", type=natural_number, default=0)
    parser.add_argument("--data", type=user_path, required=True, help="index.csv of scripts/frames.py")
    parser.add_argument("--root", type=user_path, required=True, help="folder of the indexed videos or frame folders")
    parser.add_argument(
        "--roots",
        default="{}",
        help="JSON: where the roots of clips lie now, by name; links below --root follow",
    )
    parser.add_argument("--kind", choices=("frames", "videos"), default="frames", help="what the index lists")
    parser.add_argument(
        "--init",
        type=user_path,
        help="checkpoint.pth of the recipe that this one starts from; for a probe the weights file",
    )
    parser.add_argument("--out", type=user_path, required=True, help="folder of the run")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    parser.add_argument("--threads", type=positive, help="CPU threads of the network")
    parser.add_argument(
        "--workers", type=natural_number, default=0, help="processes that load data, for each training process"
    )
    parser.add_argument("--save-minutes", type=float, default=10, help="time between saves")
    parser.add_argument("--save-steps", type=positive, help="steps between saves, besides")
    parser.add_argument("--log-steps", type=positive, default=1, help="steps between lines of the log")
    parser.add_argument("--tensorboard", action="store_true", help="write TensorBoard's event files too")
    parser.add_argument(
        "--wandb", metavar="PROJECT", help="send figures to Weights & Biases; WANDB_MODE=offline keeps them here"
    )
    parser.add_argument(
        "--pictures",
        type=natural_number,
        default=0,
        metavar="STEPS",
        help="a picture every so many steps (crw, mast, liir)",
    )
    parser.add_argument("--watch", help="the same three as JSON (used by the workflow)")
    parser.add_argument("--cost", action="store_true", help="print what the run would cost, and stop")
    args = parser.parse_args()

    # SLURM's early warning: before and after training it ends the program as SIGTERM does
    signal.signal(signal.SIGUSR1, signal.getsignal(signal.SIGTERM))
    if args.settings:
        recipe = Recipe.from_settings(json_option(args.settings, "--settings"))
    else:
        recipe = Recipe.from_row(AllRows(args.rows).recipes.get(args.recipe, "--recipe"), args.tier)
    if (recipe.init or recipe.start) and args.init is None:
        raise Refusal(
            f"recipe {recipe.name} starts from {recipe.init or recipe.start}",
            expected=f"--init, {'the checkpoint.pth of ' + recipe.init if recipe.init else 'the weights file of ' + str(recipe.start)}",
            do="make that first, or let the workflow chain them",
        )
    if args.init is not None and not (recipe.init or recipe.start or recipe.method == "probe"):
        raise Refusal(
            f"--init for the recipe {recipe.name}", expected="none: it starts from nothing", do="remove --init"
        )
    if args.watch:
        watch = Watch(**json_option(args.watch, "--watch"))
    else:
        watch = Watch(args.tensorboard, {"project": args.wandb} if args.wandb else None, args.pictures)
    code = pretrain_code(recipe.method)
    start = read_start(args.init)[1] if args.init else None
    if args.threads:
        torch.set_num_threads(args.threads)
    processes = Processes.start(pick_device(args.device))
    if args.cost:
        run = prepare(args, recipe, processes, code, start)
        if run.step >= run.total:
            print(f"all {run.total} steps of {recipe.name}, tier {recipe.tier}, are done")
        print(
            "\n".join(cost_lines(run, args.workers)) if processes.world == 1 and run.step < run.total else "", end="\n"
        )
        return
    with claim(args.out) if processes.first else nullcontext():
        if processes.first:
            refuse_foreign(args.out)
            args.out.mkdir(parents=True, exist_ok=True)
            remove_temporaries(args.out)
        run = prepare(args, recipe, processes, code, start)
        if processes.world == 1 and run.step < run.total:
            print("\n".join(cost_lines(run, args.workers)), flush=True)
        try:
            run.train(Pace(args.workers, args.save_minutes, args.save_steps, args.log_steps, watch))
        except Stopped as stopped:
            print(stopped, flush=True)
            run.end()
            sys.exit(STOPPED)
        if processes.first:
            finish(run, args)
        run.end()


def prepare(args: argparse.Namespace, recipe: Recipe, processes: Processes, code: str, start: str | None) -> Run:
    """The run, at the step where it goes on."""
    # a method whose data are no videos opens them itself
    opened = getattr(recipe.module, "open_reader", None)
    if not args.data.is_file():
        raise Refusal(
            f"--data {args.data}: no such file", expected="index.csv of scripts/frames.py", do="correct --data"
        )
    link_roots(args.root, path_options(args.roots, "--roots"))
    reader = opened(args.root, args.data) if opened else Reader(args.root, Index.read(args.data), args.kind)
    identity = {
        "recipe": recipe.settings(), "seed": args.seed, "data": reader.index.fingerprint, "code": code, "init": start,
    }  # fmt: skip
    run = Run(recipe, args.seed, reader, args.out, processes, identity=identity)
    run.start(args.init, peek=args.cost)
    return run


def finish(run: Run, args: argparse.Namespace) -> None:
    """Write what a run ends with: log, curves, checkpoint and its record."""
    recipe, out = run.recipe, args.out
    run.write_log()  # whatever happened to the file meanwhile
    lines = read_log(out / LOG)
    plot_curves(lines, out / "curves.png", f"{recipe.name}, {recipe.tier}, seed {args.seed}")
    save_tensors(out / "checkpoint.pth", run.model.checkpoint())
    write_record(out / "recipe.json", {
        **run.identity, "hash": recipe.hash, "steps": run.total, "processes": run.processes.world, "segments": run.segments,
        "device": device_name(run.processes.device), "libraries": libraries(), "loss": lines[-1]["loss"], "waiting_share": waiting_share(lines),
        "videos": len(run.reader.index.videos), "replaced": sum(line["replaced"] for line in lines), HASH: file_hash(out / "checkpoint.pth"),
    })  # fmt: skip
    print(
        f"{run.total} steps, loss {lines[0]['loss']:.4f} -> {lines[-1]['loss']:.4f}, waiting for data {waiting_share(lines):.0%}"
    )


if __name__ == "__main__":
    run_program(main)
