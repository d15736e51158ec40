"""Recognise markers in synthetic sentences, beside simpler models, and tell minimal pairs apart.

    python bench/asl_recognition.py CORPUS [--without NAME ...] [--models NAME ...]

Trains on the corpus `fit` and prints figures of CORPUS, `check` or `held-out`. Needs hmmlearn, scikit-learn and
sklearn-crfsuite, which fyc does not.

Tuning was on `fit` and `check`, and not equal. Of the two-level CRF nine settings were looked at, on the minimal pairs
of `check` as well, which also chose the events that it is trained to miss; of sklearn-crfsuite and the HMM three; of
the one-level CRF and logistic regression one. The AUC of both CRFs of ours is that of the odds of a clip that holds no
marker but the one to a clip that holds none but the other: of four such scores the best for the two-level CRF on
`check`. The other models are compared by expected durations.

All is synthetic: landmarks with the errors of a network, no picture, no texture. Nothing here says anything about ASL.
"""

from __future__ import annotations

import argparse
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing import Pool

import numpy as np
import sklearn_crfsuite
import torch
from hmmlearn.hmm import GaussianHMM
from sklearn.linear_model import LogisticRegression

from fyc.asl.face.bundle import load_bundle
from fyc.asl.measures import Measures
from fyc.asl.recognition.context import FAR, Pca, Standard, window_means
from fyc.asl.recognition.crf import FORBIDDEN, LinearCrf
from fyc.asl.recognition.events import RULES, detect
from fyc.asl.recognition.features import FEATURES, extract
from fyc.asl.recognition.phases import PhasedSegment, phase_order, segments_of, tags_of
from fyc.asl.recognition.recognizer import new_chain, present
from fyc.asl.recognition.training import Example, Settings, train
from fyc.asl.segments import Segment, score
from fyc.asl.synthetic.contrasts import CONTRASTS
from fyc.asl.synthetic.corpora import CORPORA
from fyc.asl.synthetic.measured import measure_clips
from fyc.asl.synthetic.projection import Stage
from fyc.asl.synthetic.script import MARKERS, Script

POSE = ("yaw", "pitch", "roll", "x", "y", "z")
ABLATIONS: dict[str, Callable[[str], bool]] = {
    "derivatives": lambda name: name.endswith((".velocity", ".acceleration")),
    "periodicity": lambda name: name.endswith((".swing_slow", ".swing_quick", ".reversal", ".rhythm")),
    "pose": lambda name: name.split(".")[0] in POSE,
}
DRAWS = 2000
#: For a video: probabilities of the markers (G, M) and their segments.
Answer = tuple[np.ndarray, list[PhasedSegment]]
Model = Callable[[Measures], Answer]


@dataclass
class Clip:
    """A sentence, or a side of a minimal pair."""

    script: Script
    measures: Measures
    signer: int
    contrast: str = ""
    side: int = 0

    def gold(self, tier: str) -> list[PhasedSegment]:
        rate = self.script.fps
        return [
            PhasedSegment(part.start / rate, part.core / rate, part.offset / rate, part.end / rate, part.label)
            for part in self.script.segments
            if part.tier == tier and part.label in (*RULES, *MARKERS)
        ]

    @property
    def example(self) -> Example:
        return Example(self.measures, self.gold("event"), self.gold("marker"), f"signer {self.signer}")


def signer_clips(job: tuple[str, int, bool]) -> list[Clip]:
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
        Clip(script, m, signer, contrast, side) for (script, contrast, side), m in zip(clips, measured, strict=True)
    ]


def clips_of(name: str, workers: int, *, pairs: bool) -> list[Clip]:
    with Pool(workers) as pool:
        jobs = [(name, signer, pairs) for signer in range(CORPORA[name].signers)]
        return [clip for part in pool.imap(signer_clips, jobs) for clip in part]


def two_levels(clips: Sequence[Clip], used: tuple[str, ...] = FEATURES) -> Model:
    recognizer = train([clip.example for clip in clips], "fit", synthetic=True, settings=Settings(features=used))

    def answer(measures: Measures) -> Answer:
        result = recognizer.recognise(measures)
        order = [recognizer.markers.index(name) for name in MARKERS]
        return result.marker_probabilities[:, order], result.markers

    def inputs(measures: Measures) -> np.ndarray:
        features = extract(measures)
        low = recognizer.level_one.low(features, None)
        return recognizer.marker_inputs(low, recognizer.level_one.evidence([low], [features])[0])

    answer.recognizer = recognizer  # type: ignore[attr-defined]
    answer.odds = odds(recognizer.level_two, recognizer.markers, inputs)  # type: ignore[attr-defined]
    return answer


def odds(chain: LinearCrf, names: Sequence[str], inputs: Callable[[Measures], np.ndarray]) -> Callable[..., float]:
    """For a chain: log of the odds that a clip holds no marker but the first, to no marker but the second."""

    def only(emissions: torch.Tensor, marker: str) -> torch.Tensor:
        first = 1 + 3 * names.index(marker)
        others = torch.ones(emissions.shape[-1], dtype=torch.bool)
        others[[0, first, first + 1, first + 2]] = False
        every = torch.ones(emissions.shape[:2], dtype=torch.bool)
        return chain.chain.log_partition(emissions.masked_fill(others, FORBIDDEN), every)

    @torch.no_grad()
    def of(measures: Measures, markers: tuple[str, str]) -> float:
        emissions = chain(torch.from_numpy(inputs(measures))[None])
        return float(only(emissions, markers[0]) - only(emissions, markers[1]))

    return of


class Inputs:
    """What the models of one level see: low-level features and their means in windows up to two seconds away."""

    def __init__(self, clips: Sequence[Clip]) -> None:
        rows = [extract(clip.measures).values for clip in clips]
        self.standard = Standard.fit(rows)
        self.rows = [self._wide(row) for row in rows]
        self.tags = [tags_of(clip.gold("marker"), MARKERS, extract(clip.measures).time_s) for clip in clips]

    def _wide(self, row: np.ndarray) -> np.ndarray:
        low = self.standard.apply(row)
        return np.column_stack([low, window_means(low, FAR)])

    def of(self, measures: Measures) -> tuple[np.ndarray, np.ndarray]:
        features = extract(measures)
        return features.time_s, self._wide(features.values)


def one_level(clips: Sequence[Clip]) -> Model:
    """The same chain of markers, but nothing in between."""
    inputs = Inputs(clips)
    chain = new_chain(inputs.rows[0].shape[1], len(MARKERS))
    chain.fit(inputs.rows, inputs.tags, ONE_LEVEL_L2, 60)

    def answer(measures: Measures) -> Answer:
        times, rows = inputs.of(measures)
        presence = present(chain.probabilities([rows])[0][:, 1:], 3)
        return presence, segments_of(chain.decode([rows])[0], MARKERS, times, presence)

    answer.odds = odds(chain, MARKERS, lambda measures: inputs.of(measures)[1])  # type: ignore[attr-defined]
    return answer


def crfsuite(clips: Sequence[Clip]) -> Model:
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


def hmm(clips: Sequence[Clip]) -> Model:
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


def logistic(clips: Sequence[Clip]) -> Model:
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
MODELS: dict[str, Callable[[Sequence[Clip]], Model]] = {
    "two-level CRF": two_levels,
    "one-level CRF": one_level,
    "sklearn-crfsuite": crfsuite,
    "HMM": hmm,
    "logistic regression": logistic,
}


def bootstrap(groups: Sequence[int], value: Callable[[np.ndarray], float]) -> tuple[float, float]:
    """The 95 % interval when whole groups are drawn again: `value` is given how often each item is in a draw."""
    rng = np.random.default_rng(0)
    names, place = np.unique(np.array(groups), return_inverse=True)
    draws = [
        value(np.bincount(rng.integers(0, len(names), len(names)), minlength=len(names))[place]) for _ in range(DRAWS)
    ]
    low, high = np.nanquantile(draws, [0.025, 0.975])
    return float(low), float(high)


def counted(
    predicted: Sequence[Sequence[Segment]], true: Sequence[Sequence[Segment]], classes: Sequence[str]
) -> np.ndarray:
    """(sentences, classes, 3): pairs, predicted and true segments."""
    counts = np.zeros((len(true), len(classes), 3))
    for row, (ours, theirs) in enumerate(zip(predicted, true, strict=True)):
        for label, one in score(ours, theirs, rate=30).items():
            counts[row, classes.index(label)] = one.matched, one.predicted, one.true
    return counts


def f1(counts: np.ndarray, times: np.ndarray) -> np.ndarray:
    """(classes,), when each sentence counts so many times."""
    matched, ours, theirs = np.tensordot(times, counts, 1).T
    return np.asarray(2 * matched / np.maximum(ours + theirs, 1))


def f1_table(counts: np.ndarray, classes: Sequence[str]) -> str:
    """F1 of each class and their mean, with intervals over sentences."""
    every, once = range(len(counts)), np.ones(len(counts))
    cells = []
    for number, label in enumerate(classes):
        low, high = bootstrap(every, lambda times, number=number: f1(counts, times)[number])
        cells.append(f"{label} {f1(counts, once)[number]:.2f} [{low:.2f} {high:.2f}]")
    low, high = bootstrap(every, lambda times: f1(counts, times).mean())
    return f"macro {f1(counts, once).mean():.3f} [{low:.3f} {high:.3f}]  " + "  ".join(cells)


def difference(counts: np.ndarray, reference: np.ndarray) -> str:
    """How far macro F1 is above that of other counts of the same sentences."""

    def apart(times: np.ndarray) -> float:
        return float(f1(counts, times).mean() - f1(reference, times).mean())

    low, high = bootstrap(range(len(counts)), apart)
    return f"{apart(np.ones(len(counts))):+.3f} [{low:+.3f} {high:+.3f}]"


def evidence(presence: np.ndarray, markers: tuple[str, str]) -> float:
    """For what has no chain of ours: logarithm of the ratio of the expected durations of both markers."""
    first, second = (presence[:, MARKERS.index(name)].sum() for name in markers)
    return float(np.log(first + 1e-12) - np.log(second + 1e-12))


def auc(scores: np.ndarray, sides: np.ndarray, times: np.ndarray) -> float:
    """Probability that a clip of the first side scores higher than one of the second, with weights."""
    one, other = scores[sides == 0], scores[sides == 1]
    weights = np.outer(times[sides == 0], times[sides == 1])
    higher = (one[:, None] > other) + 0.5 * (one[:, None] == other)
    return float((weights * higher).sum() / max(weights.sum(), 1))


def pairs_table(model: Model, clips: Sequence[Clip]) -> None:
    for contrast in CONTRASTS:
        own = [clip for clip in clips if clip.contrast == contrast.name]
        told = getattr(model, "odds", lambda measures, markers: evidence(model(measures)[0], markers))
        scores = np.array([told(clip.measures, contrast.markers) for clip in own])
        sides, signers = np.array([clip.side for clip in own]), [clip.signer for clip in own]
        low, high = bootstrap(signers, lambda times, s=scores, d=sides: auc(s, d, times))
        within = float((scores[sides == 0] > scores[sides == 1]).mean())
        value = auc(scores, sides, np.ones(len(own)))
        print(f"  {contrast.name:20} AUC {value:.3f} [{low:.3f} {high:.3f}]", end="  ")
        print(f"{within:.3f} of {len(own) // 2} pairs in order", flush=True)


def judge(
    name: str,
    make: Callable[[Sequence[Clip]], Model],
    fit: Sequence[Clip],
    test: Sequence[Clip],
    reference: np.ndarray | None,
) -> tuple[Model, np.ndarray]:
    """Train, print, and return the model and its counts; `reference` is what the two-level CRF had."""
    start = time.perf_counter()
    model = make(fit)
    took = time.perf_counter() - start
    sentences = [clip for clip in test if not clip.contrast]
    predicted = [[part.plain for part in model(clip.measures)[1]] for clip in sentences]
    true = [[part.plain for part in clip.gold("marker")] for clip in sentences]
    counts = counted(predicted, true, MARKERS)
    print(f"{name}: {f1_table(counts, MARKERS)}  (trained in {took:.0f} s)")
    if reference is not None:
        print(f"  macro F1 less that of the two-level CRF: {difference(counts, reference)}")
    pairs_table(model, test)
    return model, counts


def events_table(model: Model, test: Sequence[Clip]) -> None:
    sentences = [clip for clip in test if not clip.contrast]
    true = [[part.plain for part in clip.gold("event")] for clip in sentences]
    recognizer = model.recognizer  # type: ignore[attr-defined]
    found = {
        "rules": [detect(extract(clip.measures)) for clip in sentences],
        "level 1": [recognizer.recognise(clip.measures).events for clip in sentences],
    }
    for name, segments in found.items():
        plain = [[part.plain for part in one] for one in segments]
        print(f"events, {name}: {f1_table(counted(plain, true, tuple(RULES)), tuple(RULES))}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", choices=[name for name in CORPORA if name != "fit"])
    parser.add_argument("--models", nargs="*", choices=list(MODELS), default=list(MODELS))
    parser.add_argument("--without", nargs="*", choices=list(ABLATIONS), default=list(ABLATIONS))
    parser.add_argument("--workers", type=int, default=1)
    options = parser.parse_args()
    fit = clips_of("fit", options.workers, pairs=False)
    test = clips_of(options.corpus, options.workers, pairs=True)
    sentences = sum(not clip.contrast for clip in test)
    print(f"SYNTHETIC, geometry only. {platform.machine()}, numpy {np.__version__}")
    print(f"trained on fit: {len(fit)} sentences; measured on {options.corpus}: {sentences} sentences,", end=" ")
    print(f"{(len(test) - sentences) // 2} minimal pairs; segment F1 at IoU 0.5; 95 % intervals: F1 over sentences,")
    print("AUC over signers", flush=True)
    reference = None
    for name in options.models:
        model, counts = judge(name, MODELS[name], fit, test, reference)
        if name == "two-level CRF":
            reference = counts
            events_table(model, test)
    for name in options.without:
        used = tuple(feature for feature in FEATURES if not ABLATIONS[name](feature))
        judge(f"two-level CRF without {name}", lambda clips, used=used: two_levels(clips, used), fit, test, reference)


if __name__ == "__main__":
    main()
