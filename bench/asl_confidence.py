"""Fit the confidence of tracked frames on synthetic clips, and write `fyc/asl/data/track_confidence.safetensors`.

    python bench/asl_confidence.py [--clips 3] [-o FILE]

Only the split `calibration` is used. Right is a mean error of at most 10 % of the distance of the outer eye corners, as
it would be seen from the front (`fyc.asl.bench.clips`).
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np
from safetensors.numpy import save_file

from fyc.asl.bench.clips import KINDS, Measured, clip_of, follow
from fyc.asl.bench.systems import follower
from fyc.asl.face.bundle import load_bundle
from fyc.asl.synthetic.render import Studio
from fyc.asl.tracker import finders, trackers
from fyc.asl.tracking.confidence import FILE, ConfidenceModel, Evidence, calibration_error, fit_confidence
from fyc.asl.tracking.ensemble import Ensemble
from fyc.plugins import load_plugins

TARGET = Path(__file__).parents[1] / "fyc" / "asl" / "data" / FILE
#: Kinds of which more clips are rendered: those in which tracks go wrong.
HARD = ("half-face", "hand", "full-cover", "profile", "leaving", "cut")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=2, help="of each kind; twice as many of hard ones")
    parser.add_argument("-o", "--output", type=Path, default=TARGET)
    options = parser.parse_args()
    cv2.setNumThreads(1)
    frames = collect(options.clips)
    terms = np.stack([frame.evidence.terms() for frame in frames if frame.evidence is not None])
    right = np.array([frame.right for frame in frames])
    clips = np.array([f"{frame.kind} {frame.clip}" for frame in frames])
    print(f"{len(frames)} frames of {len(set(clips))} clips, {(~right).sum()} not right")
    across = cross_validated(terms, right, clips)
    print(f"cross-validated by clip: calibration error {calibration_error(across, right):.4f}, ", end="")
    print(f"wrong but confident {((across >= 0.5) & ~right).mean():.2%}, doubted {((across < 0.5) & right).mean():.2%}")
    model = fit_confidence(terms, right)
    tensors = {
        "mean": model.mean, "scale": model.scale, "weights": model.weights, "bias": np.array([model.bias]),
    }  # fmt: skip
    save_file(
        {name: np.asarray(values, np.float32) for name, values in tensors.items()}, options.output,
        {"data": f"synthetic, split calibration, {len(frames)} frames", "script": "bench/asl_confidence.py"},
    )  # fmt: skip
    print(f"{options.output}: {options.output.stat().st_size} bytes")


def collect(clips: int) -> list[Measured]:
    """Frames of an ensemble that has no confidence yet."""
    bundle, host = load_bundle(), load_plugins()
    studio = Studio(bundle)
    count = len(Evidence(*[0.5] * 13).terms())
    nothing = ConfidenceModel(np.zeros(count), np.ones(count), np.zeros(count), 0.0)
    frames = []
    for kind in KINDS:
        for number in range(2 * clips if kind in HARD else clips):
            ensemble = Ensemble(bundle, trackers(host), finders(host), seed=number, confidence=nothing)
            script = clip_of(kind, "calibration", number)
            frames += [
                frame
                for _, frame in follow(studio, kind, script, {"": follower(ensemble)})
                if frame.evidence is not None
            ]
    return frames


def cross_validated(terms: np.ndarray, right: np.ndarray, clips: np.ndarray, folds: int = 8) -> np.ndarray:
    """Confidence of each frame by models that saw no frame of its clip."""
    names = sorted(set(clips))
    fold = np.array([names.index(clip) % folds for clip in clips])
    confidence = np.zeros(len(right))
    for number in range(folds):
        model = fit_confidence(terms[fold != number], right[fold != number])
        confidence[fold == number] = model.of_terms(terms[fold == number])
    return confidence


if __name__ == "__main__":
    main()
