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
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fyc.asl.bench.recognition_figures import Agreement, log_odds, marker_inputs, true_segments
from fyc.asl.bench.statistics import auc_interval
from fyc.asl.measures import Measures
from fyc.asl.output.csv_read import read_csv
from fyc.asl.recognition.events import RULES, detect
from fyc.asl.recognition.features import extract
from fyc.asl.recognition.recognizer import Recognizer, load_recognizer
from fyc.asl.synthetic import CONTRASTS, CORPORA, MARKERS, Corpus
from fyc.asl.synthetic.script import Script


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
    rules = [detect(extract(clip.measures)) for clip in sentences]
    heads = [clip.script.signer.head for clip in sentences]
    events, markers = ([true_segments(clip.script, tier) for clip in sentences] for tier in ("event", "marker"))
    report("events by rules", Agreement.of(rules, events, tuple(RULES), heads))
    if recognizer.level_one.classes:
        report("events learned", Agreement.of([one.events for one in found], events, tuple(RULES), heads))
    report("markers", Agreement.of([one.markers for one in found], markers, MARKERS, heads))
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


def report(title: str, agreement: Agreement) -> None:
    print(f"{title}: macro F1 {agreement.macro().text()}\n{agreement.table()}", flush=True)


def pairs(recognizer: Recognizer, clips: Sequence[Clip]) -> None:
    """Print how well the sides of minimal pairs are told apart."""
    chain, names = recognizer.level_two, recognizer.markers
    if chain is None:
        raise ValueError("the recognizer knows no markers")
    for contrast in CONTRASTS:
        own = [clip for clip in clips if clip.contrast == contrast.name]
        inputs = [marker_inputs(recognizer, clip.measures) for clip in own]
        scores = np.array([log_odds(chain, names, rows, contrast.markers) for rows in inputs])
        first = np.array([clip.side == 0 for clip in own], bool)
        told = auc_interval(scores, first, [clip.script.signer.head for clip in own])
        print(f"  {contrast.name:20} AUC {told.text()}, {len(own) // 2} pairs")


if __name__ == "__main__":
    main()
