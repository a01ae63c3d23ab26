import json
import warnings

import numpy as np
import pytest

from corrbench.datasets.boxes import read_boxes, write_boxes, write_times
from corrbench.datasets.otb import open_otb
from corrbench.datasets.synthetic_tracks import write_otb
from corrbench.errors import Refusal
from corrbench.metrics.otb import (
    center_error,
    mean_scores,
    overlap,
    score_sequence,
    speed_fps,
    write_track_scores,
)

TRUTH = np.array([[10, 10, 20, 20]] * 6, float)
GUESS = np.array(
    [[10, 10, 20, 20], [15, 10, 20, 20], [20, 10, 20, 20], [10, 10, 10, 20], [30, 10, 20, 20], [22, 26, 20, 20]], float
)


def test_golden_values_of_the_reference():
    np.testing.assert_allclose(overlap(GUESS, TRUTH), [1, 0.6, 1 / 3, 0.5, 0, 0.041667], atol=1e-6)
    np.testing.assert_allclose(center_error(GUESS, TRUTH), [0, 5, 10, 5, 20, 20])
    scores = score_sequence(GUESS, TRUTH)
    assert scores.success == pytest.approx(0.396825, abs=1e-6)
    assert scores.success_rate == pytest.approx(1 / 3)  # an overlap of 0.5 is not above 0.5
    assert scores.precision == 1.0  # 20 px are within 20
    assert scores.precision_curve[19] == pytest.approx(2 / 3)
    assert scores.success_curve[0] == pytest.approx(5 / 6)


def test_the_first_frame_counts_as_its_truth_and_nan_as_failure():
    guess = TRUTH + 1000
    assert score_sequence(guess, TRUTH).precision == pytest.approx(1 / 6)
    guess[1:] = np.nan
    scores = score_sequence(guess, TRUTH)
    assert scores.precision == scores.success_rate == pytest.approx(1 / 6)
    assert score_sequence(TRUTH, TRUTH).success == pytest.approx(20 / 21)  # nothing is above 1


def test_another_number_of_boxes_is_refused(tmp_path):
    with pytest.raises(Refusal, match="5 predicted boxes"):
        score_sequence(TRUTH[:5], TRUTH)
    (tmp_path / "a.txt").write_text("1,2,3\n")
    with pytest.raises(Refusal, match=r"line 1 is '1,2,3'"):
        read_boxes(tmp_path / "a.txt")
    (tmp_path / "b.txt").write_text("not boxes\n")
    with pytest.raises(Refusal, match="expected: four numbers x y w h"):
        read_boxes(tmp_path / "b.txt")


def test_speed_is_the_toolkits_mean_of_reciprocals():
    assert speed_fps(np.array([0.0, 0.5, 0.25])) == 3.0
    assert speed_fps(np.zeros(3)) == -1


def test_equals_the_toolkit_on_the_same_files(tmp_path):
    """Its own report reads our result files; every curve and score of every sequence and overall agree."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from got10k.datasets import OTB
        from got10k.experiments import ExperimentOTB
    names = ["Biker", "Deer", "Woman"]
    write_otb(tmp_path / "data", names, frames=12, height=96, width=128)
    toolkit_data = OTB(str(tmp_path / "data"), 2015, download=False)
    otb = open_otb(tmp_path / "data", {}, names)
    rng = np.random.default_rng(0)
    results, scores, speeds = tmp_path / "results/OTB2015/mine", {}, {}
    (results / "times").mkdir(parents=True)
    for i, (_, truth) in enumerate(toolkit_data):
        np.testing.assert_array_equal(otb.track(names[i]).boxes, truth)
        guess = truth + rng.normal(0, 6, truth.shape)
        guess[:, 2:] = np.abs(guess[:, 2:]) + 1
        seconds = rng.uniform(0.01, 0.1, len(truth))
        write_boxes(results / f"{names[i]}.txt", guess)
        write_times(results / "times" / f"{names[i]}_time.txt", seconds)
        scores[names[i]] = score_sequence(read_boxes(results / f"{names[i]}.txt"), truth)
        speeds[names[i]] = speed_fps(np.loadtxt(results / "times" / f"{names[i]}_time.txt"))
    experiment = ExperimentOTB.__new__(ExperimentOTB)  # its __init__ would download
    experiment.dataset = toolkit_data
    experiment.result_dir = str(tmp_path / "results/OTB2015")
    experiment.report_dir = str(tmp_path / "reports/OTB2015")
    experiment.nbins_iou, experiment.nbins_ce = 21, 51
    theirs = experiment.report(["mine"])["mine"]
    write_track_scores(tmp_path / "ours", "mine", scores, speeds, {})
    ours = json.loads((tmp_path / "ours/performance.json").read_text())["mine"]
    for theirs_part, ours_part in [
        (theirs["overall"], ours["overall"]),
        *((theirs["seq_wise"][n], ours["seq_wise"][n]) for n in names),
    ]:
        assert theirs_part.keys() == ours_part.keys()
        for key, value in theirs_part.items():
            np.testing.assert_allclose(ours_part[key], value, rtol=1e-12, atol=1e-12, err_msg=key)
    assert mean_scores(scores).success == pytest.approx(theirs["overall"]["success_score"])
