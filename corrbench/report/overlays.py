"""Strips of three frames per sequence with the mask and where it is wrong."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from corrbench.datasets.davis import Davis
from corrbench.datasets.palette import PALETTE
from corrbench.errors import Refusal
from corrbench.images import NOTHING_KNOWN, Known
from corrbench.metrics.davis import frame_scores, read_prediction
from corrbench.report.pictures import WIDTH, Picture, caption


def overlay(image: Picture, guess: Picture, truth: Picture | None) -> Picture:
    """``[H, W, 3]`` BGR with the mask tinted; its outline black; wrong pixels outlined: white missed, magenta extra."""
    colors = PALETTE[:, ::-1][guess].astype(np.float32)
    out = np.where((guess > 0)[:, :, None], 0.5 * image + 0.5 * np.maximum(colors, 40), image).astype(np.uint8)
    for number in np.unique(guess[guess > 0]):
        _outline(out, guess == number, (0, 0, 0), 1)
    if truth is not None:
        missed, extra = (truth > 0) & (guess != truth), (guess > 0) & (guess != truth)
        # the rim of a pixel or two that every decoder loses is left out: it would draw a line round everything
        kernel = np.ones((3, 3), np.uint8)
        for region, color in ((extra, (255, 0, 255)), (missed, (255, 255, 255))):
            _outline(out, cv2.morphologyEx(region.astype(np.uint8), cv2.MORPH_OPEN, kernel) > 0, color, 1)
    return out


def _outline(image: Picture, region: NDArray[np.bool_], color: tuple[int, int, int], width: int) -> None:
    contours, _ = cv2.findContours(region.astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(image, contours, -1, color, width, cv2.LINE_AA)


def strip(davis: Davis, name: str, masks: Path, *, single_object: bool, made: Known = NOTHING_KNOWN) -> Picture:
    """First, middle and last frame of one sequence side by side, each with its frame name and J&F."""
    sequence = davis.sequence(name)
    pictures = []
    for t in (0, len(sequence.images) // 2, len(sequence.images) - 1):
        path = sequence.images[t]
        guess = read_prediction(masks / name / f"{path.stem}.png", single_object=single_object, made=made)
        if guess.shape != sequence.image(t).shape[:2]:
            raise Refusal(
                f"{masks / name / path.stem}.png: {guess.shape[1]}x{guess.shape[0]} pixels",
                expected="the size of its frame",
                do="write masks at annotation size",
            )
        truth = None
        text = f"{name} {path.stem}"
        if t < len(sequence.annotations):
            truth = sequence.annotation(t, single_object=single_object)
            objects = int(sequence.first_annotation(single_object=single_object).max())
            j, f = frame_scores(truth, guess, objects)
            text += f"  J&F {50 * (np.mean(j) + np.mean(f)):.0f}"
        picture = overlay(sequence.image(t), guess, truth)
        size = (WIDTH, round(picture.shape[0] * WIDTH / picture.shape[1]))
        picture = cv2.resize(picture, size, interpolation=cv2.INTER_AREA).astype(np.uint8)
        caption(picture, text)
        pictures.append(picture)
    return np.concatenate(pictures, axis=1)


def sheet(davis: Davis, masks: Path, title: str, *, single_object: bool, made: Known = NOTHING_KNOWN) -> Picture:
    """The strips of all sequences below each other under a title; `made` as in `metrics.davis.evaluate`."""
    strips = [strip(davis, name, masks, single_object=single_object, made=made) for name in davis.sequences]
    head = np.full((44, 3 * WIDTH, 3), 255, np.uint8)
    cv2.putText(head, title, (6, 18), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (0, 0, 0), 1, cv2.LINE_AA)
    legend = "tint: mask; white outline: missed; magenta outline: extra or wrong object (rims up to 2 px left out)"
    cv2.putText(head, legend, (6, 36), cv2.FONT_HERSHEY_SIMPLEX, 0.42, (90, 90, 90), 1, cv2.LINE_AA)
    return np.concatenate([head, *strips], axis=0)
