"""Where does a point or a mask of one image lie in another? A heat map for any encoder of the project, or for STM.

python -m scripts.correspond --weights results/weights/crw-r18/released/weights.pt \\
    --source bear/00000.jpg --target bear/00040.jpg --point 420,230 --out where.png
`--mask 00000.png` takes a whole object in place of points, `--window` a window in which you click.
"""

import argparse
import math
import os
import sys

import numpy as np

from corrbench.datasets.davis import read_annotation, read_image
from corrbench.errors import Refusal, run_program
from corrbench.files import atomic
from corrbench.images import write_image
from corrbench.machine import pick_device
from corrbench.reading import user_path
from corrbench.segmentation.correspond import encode, mask_values, picture, point_values, transfer
from corrbench.weights.canonical import load_weights
from corrbench.weights.load import load_encoder


def point(text: str) -> tuple[float, float]:
    x, _, y = text.partition(",")
    return float(x), float(y)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=user_path, required=True, help="canonical weights file (scripts/convert.py)")
    parser.add_argument("--source", type=user_path, required=True, help="image in which you point")
    parser.add_argument("--target", type=user_path, required=True, help="image in which it is looked for")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--point", type=point, nargs="+", metavar="X,Y", help="pixels of the source")
    what.add_argument("--mask", type=user_path, help="mask of the source; everything above 0 counts")
    what.add_argument("--window", action="store_true", help="click in a window (needs a display)")
    parser.add_argument(
        "--temperature", type=float, help="of the softmax over the source (default: 1 for STM, else 0.05)"
    )
    parser.add_argument("--out", type=user_path, help="picture to write")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    args = parser.parse_args()

    if not args.window and args.out is None:
        raise Refusal("no --out", expected="a picture to write", do="add --out where.png, or --window")
    if args.window:
        refuse_without_display()
    device = pick_device(args.device)
    row = load_weights(args.weights).meta["encoder"]
    net = load_encoder(row, [args.weights], device)
    temperature = (1.0 if row["arch"] == "stm" else 0.05) if args.temperature is None else args.temperature
    if not 0 < temperature < math.inf:
        raise Refusal(f"--temperature {temperature}", expected="a number above 0", do="correct --temperature")
    images = read_image(args.source), read_image(args.target)
    source, target = (encode(net, image, device, source=i == 0) for i, image in enumerate(images))

    def look(points: list[tuple[float, float]], mask: np.ndarray | None) -> np.ndarray:
        values = mask_values(source, mask) if mask is not None else sum(point_values(source, x, y) for x, y in points)
        heat, share = transfer(source, target, values, temperature=temperature)
        y, x = np.unravel_index(int(heat.argmax()), heat.shape)
        print(f"{'mask' if mask is not None else points} -> {x},{y} (that pixel reads {share:.2g} of its weight there)")
        if share < 1e-4:
            print("nothing in the target corresponds; networks that are not trained do that")
        return picture(*images, heat, points, mask)

    if args.window:
        show(images, look)
        return
    made = look(args.point or [], read_annotation(args.mask, single_object=True) if args.mask else None)
    with atomic(args.out) as temporary:
        write_image(temporary, made)


def refuse_without_display() -> None:
    """End with status 2, as for any option that cannot be obeyed, where no window can be opened."""
    import matplotlib

    try:
        matplotlib.use("TkAgg")
        if sys.platform.startswith("linux") and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
            raise ImportError("no DISPLAY is set")
    except ImportError as error:
        print(
            f"refused: --window: no window can be opened here ({error})\n"
            "  expected: a display, and a Python with Tk\n"
            "  what to do: give --point X,Y or --mask, and --out, or log in with ssh -X",
            file=sys.stderr,
        )
        sys.exit(2)


def show(images: tuple[np.ndarray, np.ndarray], look) -> None:
    """A window: a click in the source (left) shows where that point lies in the target."""
    import matplotlib.pyplot as plt

    start = np.zeros(images[1].shape[:2], np.float32)
    figure, axes = plt.subplots(figsize=(14, 5), layout="constrained")
    shown = axes.imshow(picture(*images, start, [], None)[:, :, ::-1])
    axes.set_axis_off()
    axes.set_title("click in the left image")

    def clicked(event) -> None:
        if event.inaxes is axes and event.xdata < images[0].shape[1] and event.ydata < images[0].shape[0]:
            shown.set_data(look([(event.xdata, event.ydata)], None)[:, :, ::-1])
            figure.canvas.draw_idle()

    figure.canvas.mpl_connect("button_press_event", clicked)
    plt.show()


if __name__ == "__main__":
    run_program(main)
