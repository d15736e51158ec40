"""Markers and events of rendered synthetic sentences, through the whole of `fyc asl`, as a linguist would use it.

    fyc asl bench films films/fit --corpus fit --sentences 20
    fyc asl bench films films/held-out --corpus held-out --sentences 10 --pairs 4
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
from pathlib import Path

import numpy as np

from fyc.asl.bench.recognition_figures import Agreement, log_odds, marker_inputs, true_segments
from fyc.asl.bench.sentences import MeasuredClip, parted, read_clips
from fyc.asl.bench.statistics import auc_interval
from fyc.asl.recognition.events import RULES, detect
from fyc.asl.recognition.features import extract
from fyc.asl.recognition.recognizer import Recognizer, load_recognizer
from fyc.asl.synthetic import CONTRASTS, CORPORA, MARKERS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", choices=CORPORA)
    parser.add_argument("tables", type=Path)
    parser.add_argument("--model", type=Path, required=True)
    words = parser.parse_args()
    recognizer = load_recognizer(words.model)
    sentences, sides = parted(read_clips(CORPORA[words.corpus], words.tables))
    print(f"SYNTHETIC, corpus {words.corpus}: {len(sentences)} sentences, {len(sides) // 2} minimal pairs")
    print(f"trained on {recognizer.about.videos} videos")
    found = [recognizer.recognise(clip.measures) for clip in sentences]
    rules = [detect(extract(clip.measures)) for clip in sentences]
    heads = [clip.signer for clip in sentences]
    events, markers = ([true_segments(clip.script, tier) for clip in sentences] for tier in ("event", "marker"))
    report("events by rules", Agreement.of(rules, events, tuple(RULES), heads))
    if recognizer.level_one.classes:
        report("events learned", Agreement.of([one.events for one in found], events, tuple(RULES), heads))
    report("markers", Agreement.of([one.markers for one in found], markers, MARKERS, heads))
    pairs(recognizer, sides)


def report(title: str, agreement: Agreement) -> None:
    print(f"{title}: macro F1 {agreement.macro().text()}\n{agreement.table()}", flush=True)


def pairs(recognizer: Recognizer, clips: Sequence[MeasuredClip]) -> None:
    """Print how well the sides of minimal pairs are told apart."""
    chain, names = recognizer.level_two, recognizer.markers
    if chain is None:
        raise ValueError("the recognizer knows no markers")
    for contrast in CONTRASTS:
        own = [clip for clip in clips if clip.contrast == contrast.name]
        inputs = [marker_inputs(recognizer, clip.measures) for clip in own]
        scores = np.array([log_odds(chain, names, rows, contrast.markers) for rows in inputs])
        first = np.array([clip.side == 0 for clip in own], bool)
        told = auc_interval(scores, first, [clip.signer for clip in own])
        print(f"  {contrast.name:20} AUC {told.text()}, {len(own) // 2} pairs")


if __name__ == "__main__":
    main()
