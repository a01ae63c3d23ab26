"""A tiny YouTube-VOS."""

import cv2
import numpy as np

from corrbench.datasets.palette import save_mask
from corrbench.datasets.synthetic import sequence_frames


def write_youtube_vos(root, frames=5):
    """Two videos in YouTube-VOS's layout; the second object of the second starts in frame 2. Every second frame is scored."""
    for i, name in enumerate(("first", "second")):
        folders = {
            kind: root / kind / name
            for kind in ("all_frames/valid_all_frames/JPEGImages", "valid/JPEGImages", "valid/Annotations")
        }
        for folder in folders.values():
            folder.mkdir(parents=True)
        for t, (image, ids) in enumerate(sequence_frames(40 + i, frames=frames, height=48, width=48, objects=1 + i)):
            cv2.imwrite(str(folders["all_frames/valid_all_frames/JPEGImages"] / f"{t:05d}.jpg"), image)
            if t % 2 == 0:
                cv2.imwrite(str(folders["valid/JPEGImages"] / f"{t:05d}.jpg"), image)
            if t == 0:
                save_mask(folders["valid/Annotations"] / f"{t:05d}.png", np.where(ids == 1, 1, 0).astype(np.uint8))
            if t == 2 and i == 1:
                save_mask(folders["valid/Annotations"] / f"{t:05d}.png", np.where(ids == 2, 5, 0).astype(np.uint8))
