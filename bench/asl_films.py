"""Markers and events of rendered synthetic sentences, through the whole of `fyc asl`, as a linguist would use it.

    fyc asl bench films films/fit --corpus fit --sentences 6
    fyc asl bench films films/held-out --corpus held-out --sentences 10 --pairs 1
    for each folder of a signer:
        fyc asl signer films/fit/SIGNER -o SIGNER.safetensors
        fyc asl run films/fit/SIGNER -o out/fit/SIGNER --signer SIGNER.safetensors --no-overlay --no-report
    fyc asl train films/fit -o model --measures out/fit/SIGNER --measures ...
    python bench/asl_films.py held-out out/held-out --model model/recognizer.safetensors

Reads the tables that `fyc asl run` wrote, finds events by the rules and by the recognizer, and markers by the
recognizer, and compares them with the scripts. F1 of segments at IoU 0.5, macro; of minimal pairs the AUC of the odds
of a clip that holds no marker but the one to a clip that holds none but the other. 95 % intervals by bootstrap over
signers.

All is synthetic: textures of real men on heads that do not exist, sentences by a script. It says nothing about ASL.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from fyc.asl.measures import Measures
from fyc.asl.output.csv_read import read_csv
from fyc.asl.recognition.crf import FORBIDDEN
from fyc.asl.recognition.events import RULES, detect
from fyc.asl.recognition.features import extract
from fyc.asl.recognition.recognizer import Recognizer, load_recognizer
from fyc.asl.segments import Segment, score
from fyc.asl.synthetic import CONTRASTS, CORPORA, MARKERS, Corpus
from fyc.asl.synthetic.measured import gold_segments
from fyc.asl.synthetic.script import Script

DRAWS = 2000


@dataclass(frozen=True)
class Clip:
    """A clip that was analysed; `contrast` and `side` of a minimal pair."""

    script: Script
    measures: Measures
    contrast: str = ""
    side: int = 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", choices=CORPORA)
    parser.add_argument("tables", type=Path)
    parser.add_argument("--model", type=Path, required=True)
    words = parser.parse_args()
    recognizer = load_recognizer(words.model)
    clips = clips_of(CORPORA[words.corpus], words.tables)
    sentences = [clip for clip in clips if not clip.contrast]
    print(f"SYNTHETIC, corpus {words.corpus}: {len(sentences)} sentences, {len(clips) - len(sentences)} clips of pairs")
    print(f"trained on {recognizer.about.videos} videos")
    found = [recognizer.recognise(clip.measures) for clip in sentences]
    heads = np.array([clip.script.signer.head for clip in sentences])
    events = [gold_segments(clip.script, "event") for clip in sentences]
    rules = [[part.plain for part in detect(extract(clip.measures))] for clip in sentences]
    table("events by rules", rules, events, tuple(RULES), heads)
    if recognizer.level_one.classes:
        learned = [[part.plain for part in one.events] for one in found]
        table("events learned", learned, events, tuple(RULES), heads)
    markers = [[part.plain for part in one.markers] for one in found]
    table("markers", markers, [gold_segments(clip.script, "marker") for clip in sentences], MARKERS, heads)
    pairs(recognizer, [clip for clip in clips if clip.contrast])


def clips_of(corpus: Corpus, tables: Path) -> list[Clip]:
    """All tables of a folder, with their scripts; where the track cannot be trusted nothing is known."""
    found = []
    for path in sorted(tables.rglob("*.csv")):
        measures = read_csv(path).trusted()
        name = path.stem.removeprefix(f"{corpus.name}-")
        if name.isdigit():
            found.append(Clip(corpus.sentence(int(name)), measures))
            continue
        contrast = next(contrast for contrast in CONTRASTS if name.startswith(f"{contrast.name}-"))
        signer, index, marker = name.removeprefix(f"{contrast.name}-").split("-", 2)
        side = contrast.markers.index(marker)
        script = corpus.pair(contrast, int(signer), int(index))[side]
        found.append(Clip(script, measures, contrast.name, side))
    return found


def table(
    title: str,
    ours: Sequence[Sequence[Segment]],
    theirs: Sequence[Sequence[Segment]],
    labels: tuple[str, ...],
    heads: np.ndarray,
) -> None:
    """Print F1 of each label, and the mean."""
    counts = np.zeros((len(ours), len(labels), 3))
    for row, (found, true) in enumerate(zip(ours, theirs, strict=True)):
        for label, one in score(found, true, rate=30).items():
            if label in labels:
                counts[row, labels.index(label)] = one.matched, one.predicted, one.true

    def f1(times: np.ndarray) -> np.ndarray:
        matched, predicted, true = np.tensordot(times, counts, 1).T
        return np.asarray(2 * matched / np.maximum(predicted + true, 1))

    every = f1(np.ones(len(counts)))
    low, high = bootstrap(heads, lambda times: float(f1(times).mean()))
    print(f"{title}: macro F1 {every.mean():.2f} ({low:.2f} to {high:.2f})")
    for number, label in enumerate(labels):
        print(f"  {label:18s} {every[number]:.2f}  of {counts[:, number, 2].sum():.0f}")


def pairs(recognizer: Recognizer, clips: Sequence[Clip]) -> None:
    """Print how well the sides of minimal pairs are told apart."""
    for contrast in CONTRASTS:
        own = [clip for clip in clips if clip.contrast == contrast.name]
        if not own:
            continue
        scores = np.array([odds(recognizer, clip.measures, contrast.markers) for clip in own])
        sides = np.array([clip.side for clip in own])

        def auc(times: np.ndarray, scores: np.ndarray = scores, sides: np.ndarray = sides) -> float:
            one, other = scores[sides == 0], scores[sides == 1]
            weights = np.outer(times[sides == 0], times[sides == 1])
            higher = (one[:, None] > other) + 0.5 * (one[:, None] == other)
            return float((weights * higher).sum() / max(weights.sum(), 1))

        low, high = bootstrap(np.array([clip.script.signer.head for clip in own]), auc)
        print(
            f"  {contrast.name:20s} AUC {auc(np.ones(len(own))):.2f} ({low:.2f} to {high:.2f}), {len(own) // 2} pairs"
        )


@torch.no_grad()
def odds(recognizer: Recognizer, measures: Measures, markers: tuple[str, str]) -> float:
    """Logarithm of the odds that a clip holds no marker but the first, to no marker but the second."""
    if recognizer.level_two is None:
        raise ValueError("the recognizer knows no markers")
    features, level, chain = extract(measures), recognizer.level_one, recognizer.level_two
    low = level.low(features, None)
    inputs = recognizer.marker_inputs(low, *level.evidence([low], [features]))
    emissions = chain(torch.from_numpy(inputs)[None])

    def only(marker: str) -> float:
        first = 1 + 3 * recognizer.markers.index(marker)
        others = torch.ones(emissions.shape[-1], dtype=torch.bool)
        others[[0, first, first + 1, first + 2]] = False
        every = torch.ones(emissions.shape[:2], dtype=torch.bool)
        return float(chain.chain.log_partition(emissions.masked_fill(others, FORBIDDEN), every))

    return only(markers[0]) - only(markers[1])


def bootstrap(groups: np.ndarray, value: Callable[[np.ndarray], float]) -> tuple[float, float]:
    """The 95 % interval when whole groups are drawn again: `value` is given how often each item is in a draw."""
    rng = np.random.default_rng(0)
    names, place = np.unique(groups, return_inverse=True)
    draws = [
        value(np.bincount(rng.integers(0, len(names), len(names)), minlength=len(names))[place]) for _ in range(DRAWS)
    ]
    low, high = np.quantile(draws, [0.025, 0.975])
    return float(low), float(high)


if __name__ == "__main__":
    main()
