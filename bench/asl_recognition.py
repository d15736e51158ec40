"""Recognise markers in synthetic sentences, beside simpler models, and tell minimal pairs apart.

    python bench/asl_recognition.py CORPUS [--tables FOLDER] [--without NAME ...] [--models NAME ...]

Trains on the corpus `fit` and prints figures of CORPUS, `check` or `held-out`. Without `--tables` landmarks are
simulated, with the errors of a network, and there is no picture. FOLDER has the folders `fit` and CORPUS with tables of
rendered clips that went through the whole of `fyc asl run` (`bench/asl_films.py` says how). Needs hmmlearn,
scikit-learn and sklearn-crfsuite, which fyc does not.

Tuning was on `fit` and `check`, and not equal. Of the two-level CRF nine settings were looked at, on the minimal pairs
of `check` as well, which also chose the events that it is trained to miss; of sklearn-crfsuite and the HMM three; of
the one-level CRF and logistic regression one. The AUC of both CRFs of ours is that of the odds of a clip that holds no
marker but the one to a clip that holds none but the other: of four such scores the best for the two-level CRF on
`check`. The other models are compared by expected durations.

All is synthetic, and from geometry. Nothing here says anything about ASL.
"""

from __future__ import annotations

import argparse
import platform
import time
from collections.abc import Callable, Sequence
from multiprocessing import Pool
from pathlib import Path

import numpy as np
import sklearn_crfsuite
from hmmlearn.hmm import GaussianHMM
from sklearn.linear_model import LogisticRegression

from fyc.asl.bench.recognition_figures import Agreement, log_odds, marker_inputs, true_segments
from fyc.asl.bench.sentences import MeasuredClip, parted, read_clips
from fyc.asl.bench.statistics import auc_interval
from fyc.asl.face.bundle import load_bundle
from fyc.asl.measures import Measures
from fyc.asl.recognition.context import FAR, Pca, Standard, window_means
from fyc.asl.recognition.events import RULES, detect
from fyc.asl.recognition.features import FEATURES, extract
from fyc.asl.recognition.phases import PhasedSegment, phase_order, segments_of, tags_of
from fyc.asl.recognition.recognizer import new_chain, present
from fyc.asl.recognition.training import Settings, train
from fyc.asl.synthetic.contrasts import CONTRASTS
from fyc.asl.synthetic.corpora import CORPORA
from fyc.asl.synthetic.measured import measure_clips
from fyc.asl.synthetic.projection import Stage
from fyc.asl.synthetic.script import MARKERS

POSE = ("yaw", "pitch", "roll", "x", "y", "z")
ABLATIONS: dict[str, Callable[[str], bool]] = {
    "derivatives": lambda name: name.endswith((".velocity", ".acceleration")),
    "periodicity": lambda name: name.endswith((".swing_slow", ".swing_quick", ".reversal", ".rhythm")),
    "pose": lambda name: name.split(".")[0] in POSE,
}
#: For a video: probabilities of the markers (G, M) and their segments.
Answer = tuple[np.ndarray, list[PhasedSegment]]
Model = Callable[[Measures], Answer]


def signer_clips(job: tuple[str, int, bool]) -> list[MeasuredClip]:
    """All clips of a signer; rest is found from all of them together."""
    name, signer, pairs = job
    corpus, stage = CORPORA[name], Stage(load_bundle().mesh)
    clips = [(corpus.sentence(signer * corpus.sentences + n), "", 0) for n in range(corpus.sentences)]
    if pairs:
        for contrast in CONTRASTS:
            for index in range(corpus.pairs):
                sides = corpus.pair(contrast, signer, index)
                clips += [(script, contrast.name, side) for side, script in enumerate(sides)]
    measured = measure_clips(stage, [script for script, _, _ in clips])
    return [
        MeasuredClip(script, m, contrast, side) for (script, contrast, side), m in zip(clips, measured, strict=True)
    ]


def simulated(name: str, workers: int, *, pairs: bool) -> list[MeasuredClip]:
    with Pool(workers) as pool:
        jobs = [(name, signer, pairs) for signer in range(CORPORA[name].signers)]
        return [clip for part in pool.imap(signer_clips, jobs) for clip in part]


def two_levels(clips: Sequence[MeasuredClip], used: tuple[str, ...] = FEATURES) -> Model:
    recognizer = train([clip.example for clip in clips], "fit", synthetic=True, settings=Settings(features=used))

    def answer(measures: Measures) -> Answer:
        result = recognizer.recognise(measures)
        order = [recognizer.markers.index(name) for name in MARKERS]
        return result.marker_probabilities[:, order], result.markers

    def odds(measures: Measures, markers: tuple[str, str]) -> float:
        assert recognizer.level_two is not None
        return log_odds(recognizer.level_two, recognizer.markers, marker_inputs(recognizer, measures), markers)

    answer.recognizer = recognizer  # type: ignore[attr-defined]
    answer.odds = odds  # type: ignore[attr-defined]
    return answer


class Inputs:
    """What the models of one level see: low-level features and their means in windows up to two seconds away."""

    def __init__(self, clips: Sequence[MeasuredClip]) -> None:
        rows = [extract(clip.measures).values for clip in clips]
        self.standard = Standard.fit(rows)
        self.rows = [self._wide(row) for row in rows]
        self.tags = [
            tags_of(true_segments(clip.script, "marker"), MARKERS, extract(clip.measures).time_s) for clip in clips
        ]

    def _wide(self, row: np.ndarray) -> np.ndarray:
        low = self.standard.apply(row)
        return np.column_stack([low, window_means(low, FAR)])

    def of(self, measures: Measures) -> tuple[np.ndarray, np.ndarray]:
        features = extract(measures)
        return features.time_s, self._wide(features.values)


def one_level(clips: Sequence[MeasuredClip]) -> Model:
    """The same chain of markers, but nothing in between."""
    inputs = Inputs(clips)
    chain = new_chain(inputs.rows[0].shape[1], len(MARKERS))
    chain.fit(inputs.rows, inputs.tags, ONE_LEVEL_L2, 60)

    def answer(measures: Measures) -> Answer:
        times, rows = inputs.of(measures)
        presence = present(chain.probabilities([rows])[0][:, 1:], 3)
        return presence, segments_of(chain.decode([rows])[0], MARKERS, times, presence)

    def odds(measures: Measures, markers: tuple[str, str]) -> float:
        return log_odds(chain, MARKERS, inputs.of(measures)[1], markers)

    answer.odds = odds  # type: ignore[attr-defined]
    return answer


def crfsuite(clips: Sequence[MeasuredClip]) -> Model:
    """sklearn-crfsuite, L-BFGS, on principal components: it reads dictionaries, and is slow with more."""
    inputs = Inputs(clips)
    pca = Pca.fit(inputs.rows, COMPONENTS)
    scale = Standard.fit([pca.apply(rows) for rows in inputs.rows])

    def words(rows: np.ndarray) -> list[dict[str, float]]:
        return [dict(zip(NAMES, row, strict=True)) for row in scale.apply(pca.apply(rows)).tolist()]

    model = sklearn_crfsuite.CRF(algorithm="lbfgs", c1=0.0, c2=ONE_LEVEL_L2 / 2, max_iterations=60)
    model.fit([words(rows) for rows in inputs.rows], [[str(tag) for tag in tags] for tags in inputs.tags])

    def answer(measures: Measures) -> Answer:
        times, rows = inputs.of(measures)
        seen = words(rows)
        by_frame = model.predict_marginals_single(seen)
        every = np.array([[one.get(str(tag), 0.0) for tag in range(1 + 3 * len(MARKERS))] for one in by_frame])
        presence = present(every[:, 1:], 3)
        tags = np.array([int(tag) for tag in model.predict_single(seen)])
        return presence, segments_of(tags, MARKERS, times, presence)

    return answer


def hmm(clips: Sequence[MeasuredClip]) -> Model:
    """A Gaussian for each phase of each marker, on principal components; transitions are counted."""
    inputs = Inputs(clips)
    pca = Pca.fit(inputs.rows, HMM_COMPONENTS)
    reduced = [pca.apply(rows) for rows in inputs.rows]
    together, tags = np.concatenate(reduced), np.concatenate(inputs.tags)
    states = 1 + 3 * len(MARKERS)
    counts = 0.1 * phase_order(len(MARKERS))[0].astype(float)
    starts = np.full(states, 0.1)
    for sequence in inputs.tags:
        np.add.at(counts, (sequence[:-1], sequence[1:]), 1)
        starts[sequence[0]] += 1
    model = GaussianHMM(states, covariance_type="full")
    model.startprob_, model.transmat_ = starts / starts.sum(), counts / counts.sum(axis=1, keepdims=True)
    model.means_ = np.stack([together[tags == state].mean(axis=0) for state in range(states)])
    ridge = 0.1 * np.diag(together.var(axis=0))
    model.covars_ = np.stack([np.cov(together[tags == state].T) + ridge for state in range(states)])

    def answer(measures: Measures) -> Answer:
        times, rows = inputs.of(measures)
        small = pca.apply(rows)
        presence = present(model.predict_proba(small)[:, 1:], 3)
        return presence, segments_of(model.predict(small), MARKERS, times, presence)

    return answer


def logistic(clips: Sequence[MeasuredClip]) -> Model:
    """Every moment on its own; segments are runs of a class."""
    inputs = Inputs(clips)
    labels = (np.concatenate(inputs.tags) + 2) // 3
    model = LogisticRegression(C=0.01, max_iter=150)
    model.fit(np.concatenate(inputs.rows), labels)

    def answer(measures: Measures) -> Answer:
        times, rows = inputs.of(measures)
        every = model.predict_proba(rows)
        best = every.argmax(axis=1)
        return every[:, 1:], segments_of(np.where(best > 0, 3 * best - 1, 0), MARKERS, times, every[:, 1:])

    return answer


COMPONENTS, HMM_COMPONENTS, ONE_LEVEL_L2 = 60, 60, 100.0
NAMES = [f"c{number}" for number in range(COMPONENTS)]
MODELS: dict[str, Callable[[Sequence[MeasuredClip]], Model]] = {
    "two-level CRF": two_levels,
    "one-level CRF": one_level,
    "sklearn-crfsuite": crfsuite,
    "HMM": hmm,
    "logistic regression": logistic,
}


def evidence(presence: np.ndarray, markers: tuple[str, str]) -> float:
    """For what has no chain of ours: logarithm of the ratio of the expected durations of both markers."""
    first, second = (presence[:, MARKERS.index(name)].sum() for name in markers)
    return float(np.log(first + 1e-12) - np.log(second + 1e-12))


def pairs_table(model: Model, clips: Sequence[MeasuredClip]) -> None:
    for contrast in CONTRASTS:
        own = [clip for clip in clips if clip.contrast == contrast.name]
        told = getattr(model, "odds", lambda measures, markers: evidence(model(measures)[0], markers))
        scores = np.array([told(clip.measures, contrast.markers) for clip in own])
        first = np.array([clip.side == 0 for clip in own], bool)
        found = auc_interval(scores, first, [clip.signer for clip in own])
        within = float((scores[first] > scores[~first]).mean())
        print(
            f"  {contrast.name:20} AUC {found.text(digits=3)}, {within:.3f} of {len(own) // 2} pairs in order",
            flush=True,
        )


def agreement(found: Sequence[list[PhasedSegment]], test: Sequence[MeasuredClip], tier: str) -> Agreement:
    """Segments that were found in the sentences beside the true ones; sentences are what is drawn again."""
    true = [true_segments(clip.script, tier) for clip in test if not clip.contrast]
    return Agreement.of(found, true, MARKERS if tier == "marker" else tuple(RULES), range(len(true)))


def judge(
    name: str,
    make: Callable[[Sequence[MeasuredClip]], Model],
    fit: Sequence[MeasuredClip],
    test: Sequence[MeasuredClip],
    reference: Agreement | None,
) -> tuple[Model, Agreement]:
    """Train, print, and return the model and what it found; `reference` is what the two-level CRF found."""
    start = time.perf_counter()
    model = make(fit)
    took = time.perf_counter() - start
    found = agreement([model(clip.measures)[1] for clip in test if not clip.contrast], test, "marker")
    print(f"{name}: macro F1 {found.macro().text(digits=3)}, trained in {took:.0f} s\n{found.table()}")
    if reference is not None:
        print(f"  macro F1 less that of the two-level CRF: {found.above(reference).text(digits=3)}")
    pairs_table(model, test)
    return model, found


def events_table(model: Model, test: Sequence[MeasuredClip]) -> None:
    measures = [clip.measures for clip in test if not clip.contrast]
    recognizer = model.recognizer  # type: ignore[attr-defined]
    found = {
        "rules": [detect(extract(one)) for one in measures],
        "level 1": [recognizer.recognise(one).events for one in measures],
    }
    for name, segments in found.items():
        events = agreement(segments, test, "event")
        print(f"events, {name}: macro F1 {events.macro().text(digits=3)}\n{events.table()}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", choices=[name for name in CORPORA if name != "fit"])
    parser.add_argument("--tables", type=Path)
    parser.add_argument("--models", nargs="*", choices=list(MODELS), default=list(MODELS))
    parser.add_argument("--without", nargs="*", choices=list(ABLATIONS), default=list(ABLATIONS))
    parser.add_argument("--workers", type=int, default=1)
    options = parser.parse_args()
    if options.tables:
        fit, test = (read_clips(CORPORA[name], options.tables / name) for name in ("fit", options.corpus))
        fit, _ = parted(fit)
    else:
        fit = simulated("fit", options.workers, pairs=False)
        test = simulated(options.corpus, options.workers, pairs=True)
    sentences, sides = parted(test)
    source = "whole path" if options.tables else "simulated landmarks"
    print(f"SYNTHETIC, geometry only, {source}. {platform.machine()}, numpy {np.__version__}")
    print(f"trained on fit: {len(fit)} sentences; measured on {options.corpus}: {len(sentences)} sentences,", end=" ")
    print(f"{len(sides) // 2} minimal pairs; segment F1 at IoU 0.5; 95 % intervals: F1 over sentences,")
    print("AUC over signers", flush=True)
    reference = None
    for name in options.models:
        model, found = judge(name, MODELS[name], fit, test, reference)
        if name == "two-level CRF":
            reference = found
            events_table(model, test)
    for name in options.without:
        used = tuple(feature for feature in FEATURES if not ABLATIONS[name](feature))
        judge(f"two-level CRF without {name}", lambda clips, used=used: two_levels(clips, used), fit, test, reference)


if __name__ == "__main__":
    main()
