"""J and F the literal way: full images, explicit neighbors, dilation by a disk, written from the metric's rules."""

import math

import cv2
import numpy as np


def boundary(mask):
    mask = mask.astype(bool)
    h, w = mask.shape
    out = np.zeros((h, w), bool)
    padded = np.zeros((h + 1, w + 1), bool)
    padded[:h, :w] = mask
    for y in range(h):
        for x in range(w):
            here, east, south, corner = padded[y, x], padded[y, x + 1], padded[y + 1, x], padded[y + 1, x + 1]
            if y == h - 1 and x == w - 1:
                out[y, x] = False
            elif y == h - 1:
                out[y, x] = here != east
            elif x == w - 1:
                out[y, x] = here != south
            else:
                out[y, x] = here != east or here != south or here != corner
    return out


def fast_boundary(mask):
    """The same with array shifts, for images of full size."""
    m = mask.astype(bool)
    east, south, corner = np.zeros_like(m), np.zeros_like(m), np.zeros_like(m)
    east[:, :-1], south[:-1], corner[:-1, :-1] = m[:, 1:], m[1:], m[1:, 1:]
    out = (m ^ east) | (m ^ south) | (m ^ corner)
    out[-1], out[:, -1] = m[-1] ^ east[-1], m[:, -1] ^ south[:, -1]
    out[-1, -1] = False
    return out


def disk(radius):
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    return (y**2 + x**2 <= radius**2).astype(np.uint8)


def j_measure(truth, guess):
    union = (truth | guess).sum()
    return 1.0 if union == 0 else (truth & guess).sum() / union


def f_measure(truth, guess):
    radius = math.ceil(0.008 * math.hypot(*truth.shape))
    b_truth, b_guess = fast_boundary(truth), fast_boundary(guess)
    near_truth = cv2.dilate(b_truth.astype(np.uint8), disk(radius)).astype(bool)
    near_guess = cv2.dilate(b_guess.astype(np.uint8), disk(radius)).astype(bool)
    n_truth, n_guess = b_truth.sum(), b_guess.sum()
    if n_guess == 0 and n_truth == 0:
        return 1.0
    precision = 1.0 if n_guess == 0 else 0.0 if n_truth == 0 else (b_guess & near_truth).sum() / n_guess
    recall = 1.0 if n_truth == 0 else 0.0 if n_guess == 0 else (b_truth & near_guess).sum() / n_truth
    return 0.0 if precision + recall == 0 else 2 * precision * recall / (precision + recall)


def db_statistics(values):
    values = np.asarray(values, float)
    ids = (np.round(np.linspace(1, len(values), 5) + 1e-10) - 1).astype(np.uint8)
    bins = [values[ids[i] : ids[i + 1] + 1] for i in range(4)]
    return np.nanmean(values), np.nanmean(values > 0.5), np.nanmean(bins[0]) - np.nanmean(bins[3])


def official_global(sequences):
    """`sequences`: list of (truth ids ``[F, H, W]``, guess ids). The official global row, as fractions."""
    j, f = [], []
    for truth, guess in sequences:
        for number in range(1, int(truth[0].max()) + 1):
            pairs = [(t == number, g == number) for t, g in zip(truth[1:-1], guess[1:-1], strict=True)]
            j.append(db_statistics([j_measure(*p) for p in pairs]))
            f.append(db_statistics([f_measure(*p) for p in pairs]))
    (jm, jr, jd), (fm, fr, fd) = np.mean(j, axis=0), np.mean(f, axis=0)
    return dict(zip(("J&F-Mean", "J-Mean", "J-Recall", "J-Decay", "F-Mean", "F-Recall", "F-Decay"), ((jm + fm) / 2, jm, jr, jd, fm, fr, fd), strict=True))  # fmt: skip
