"""Trials for trackers, and landmarks with the errors of a network."""

from __future__ import annotations

import numpy as np
import pytest

from fyc.asl.face.bundle import Bundle
from fyc.asl.synthetic.corpora import CORPORA
from fyc.asl.synthetic.heads import HEAD_SPLITS
from fyc.asl.synthetic.observation import AT_REST, observe
from fyc.asl.synthetic.projection import HEIGHT, WIDTH, Stage
from fyc.asl.synthetic.trials import TRIALS, trial


@pytest.fixture(scope="module")
def stage(face_bundle: Bundle) -> Stage:
    return Stage(face_bundle.mesh)


@pytest.mark.parametrize("kind", sorted(TRIALS))
def test_a_trial_comes_back_and_stays_in_the_picture(stage: Stage, kind: str) -> None:
    for split in HEAD_SPLITS:
        script = trial(kind, split, 1)
        again = trial(kind, split, 1)
        assert script.curves.tobytes() == again.curves.tobytes()
        assert script.name == again.name == f"{kind}-{split}-1"
        assert script.signer.brow_field == ("B" if split == "held-out" else "A")
        assert trial(kind, split, 2).curves.tobytes() != script.curves.tobytes()
        points = stage.project(script).points
        assert points.min() > -25
        assert points[..., 0].max() < WIDTH + 25
        assert points[..., 1].max() < HEIGHT + 25


def test_brow_trials_have_rest_and_raise_in_all_poses(stage: Stage) -> None:
    script = trial("brows", "fit", 0)
    heights = stage.project(script).brows.mean(axis=1)
    raised = heights > 0.33
    rest = np.abs(heights) < 0.01
    assert 0.25 < raised.mean() < 0.7
    assert 0.2 < rest.mean() < 0.7
    pitch = script.curve("pitch")
    assert np.ptp(pitch[raised]) > 25
    assert np.ptp(pitch[rest]) > 25
    assert np.abs(np.corrcoef(pitch, heights)[0, 1]) < 0.4


def test_disturbances_are_where_they_should_be() -> None:
    assert trial("blackout", "fit", 0).black(45)
    assert not trial("blackout", "fit", 0).black(44)
    cut = trial("cut", "fit", 0)
    assert [cut.shot(frame) for frame in (59, 60)] == [0, 1]
    assert trial("two-faces", "fit", 0).shots[0].bystander is not None
    assert np.abs(trial("profile", "fit", 0).curve("yaw")).max() > 65
    assert trial("dark", "fit", 0).quality.gain < 0.35
    assert trial("few-pixels", "fit", 0).quality.shrink >= 3
    assert trial("smeared", "fit", 0).quality.shutter == 1
    assert trial("hand", "fit", 0).occluders[0].kind == "hand"
    assert trial("half-face", "fit", 0).occluders[0].kind == "panel"


def test_trials_are_those_that_were_committed() -> None:
    """Whoever changes these numbers makes another bench: all figures must be measured again."""
    movement = {kind: float(np.abs(trial(kind, "held-out", 0).curves).sum()) for kind in TRIALS}
    assert movement == pytest.approx(
        {
            "poses": 2863.517,
            "brows": 18823.962,
            "turning": 12869.809,
            "hand": 2284.851,
            "half-face": 2987.345,
            "cut": 1706.028,
            "blackout": 2511.083,
            "two-faces": 2559.575,
            "profile": 5206.601,
            "dark": 4003.26,
            "blurred": 3824.243,
            "smeared": 3103.627,
            "few-pixels": 4144.67,
        },
        rel=1e-4,
    )


def test_an_unknown_trial_is_refused() -> None:
    with pytest.raises(KeyError):
        trial("nothing", "fit", 0)


def test_errors_have_the_documented_size(stage: Stage) -> None:
    errors = []
    for number in range(0, 480, 40):
        script = CORPORA["fit"].sentence(number)
        projection = stage.project(script)
        eyes = np.linalg.norm(projection.points[:, 33] - projection.points[:, 263], axis=1)
        errors.append((observe(stage, script) - projection.points) / eyes[:, None, None])
    rms = float(np.sqrt(np.mean(np.concatenate(errors) ** 2)))
    assert AT_REST < rms < 2 * AT_REST
    steps = np.concatenate([np.diff(part, axis=0) for part in errors])
    assert 0.001 < np.sqrt((steps**2).mean()) < 0.006


def test_errors_belong_to_the_signer_and_the_clip(stage: Stage) -> None:
    fit = CORPORA["fit"]
    script = fit.sentence(3)
    assert np.array_equal(observe(stage, script), observe(stage, script))

    def constant(number: int) -> np.ndarray:
        clip = fit.sentence(number)
        error = (observe(stage, clip) - stage.project(clip).points).mean(axis=0).ravel()
        return error / np.linalg.norm(error)

    same, other = constant(3) @ constant(8), constant(3) @ constant(3 + fit.sentences)
    assert same > other
    assert same > 0.4


def test_brows_are_seen_smaller_than_they_move(stage: Stage) -> None:
    script = trial("brows", "fit", 0)
    projection = stage.project(script)
    error = (observe(stage, script) - projection.points)[:, [105, 334], 1].mean(axis=1)
    raised = projection.brows.mean(axis=1) > 0.33
    assert error[raised].mean() > error[~raised].mean()


def test_black_frames_are_not_observed(stage: Stage) -> None:
    script = trial("blackout", "fit", 2)
    missing = np.isnan(observe(stage, script)).all(axis=(1, 2))
    assert missing.tolist() == [script.black(frame) for frame in range(script.frames)]
    assert missing.any()
