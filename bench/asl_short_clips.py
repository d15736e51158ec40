"""Are brows told better in short clips if the signer was learned from several?

    fyc asl bench films films --corpus check --sentences 8
    for each folder of a signer:
        fyc asl run films/SIGNER -o alone/SIGNER --no-overlay --no-report
        fyc asl signer films/SIGNER -o SIGNER.safetensors
        fyc asl run films/SIGNER -o known/SIGNER --signer SIGNER.safetensors --no-overlay --no-report
    python bench/asl_short_clips.py check alone known

Reads both trees of tables, and prints for each the AUC of frames in the core of a raise (or lowering) of the brows
against those in which the script leaves them at rest, by the mean height of the brows: within each clip, of which the
mean is printed, and among all clips of a signer together, where it counts that rest is the same in all. Frames whose
track is not trusted are left out. 95 % intervals by bootstrap over signers, of the difference, too.

All is synthetic: textures of real men on heads that do not exist, sentences by a script. It says nothing about ASL.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fyc.asl.bench.recognition_figures import true_segments
from fyc.asl.bench.sentences import MeasuredClip, parted, read_clips
from fyc.asl.bench.statistics import auc, mean_interval
from fyc.asl.synthetic import CORPORA, Corpus
from fyc.asl.synthetic.corpora import FPS


@dataclass(frozen=True)
class Clip:
    """A sentence of T frames.

    Attributes:
        signer: number of the signer.
        heights: (T,), of the brows in cm, NaN where they are not known.
        truth: (T,) each, whether the brows are up, down (`brow-raise`, `brow-lower`), or at `rest`.
    """

    signer: int
    heights: np.ndarray
    truth: dict[str, np.ndarray]

    def told(self, label: str) -> float:
        """The AUC of frames with an event against those at rest; NaN where there are none."""
        there, rest = (self.heights[self.truth[name]] for name in (label, "rest"))
        there, rest = there[np.isfinite(there)], rest[np.isfinite(rest)]
        return auc(there, rest) if label == "brow-raise" else auc(-there, -rest)


def clips_of(corpus: Corpus, tables: Path) -> dict[str, Clip]:
    """The sentences of a tree of tables, by name."""
    sentences, _ = parted(read_clips(corpus, tables))
    return {clip.script.name: Clip(clip.signer, clip.measures.brows.mean(axis=1), truth_of(clip)) for clip in sentences}


def truth_of(clip: MeasuredClip) -> dict[str, np.ndarray]:
    """Whether the brows are up, down, or at rest in each frame."""
    times = clip.measures.time_s
    truth = {label: np.zeros(len(times), bool) for label in ("brow-raise", "brow-lower")}
    moving = np.zeros(len(times), bool)
    for part in true_segments(clip.script, "event"):
        if part.label in truth:
            truth[part.label] |= (times >= part.core_s) & (times < part.offset_s)
            moving |= (times >= part.start_s) & (times < part.end_s)
    return truth | {"rest": ~moving}


def together(clips: Sequence[Clip]) -> list[Clip]:
    """All clips of each signer as one."""
    by_signer = [[clip for clip in clips if clip.signer == who] for who in sorted({clip.signer for clip in clips})]
    return [
        Clip(
            own[0].signer,
            np.concatenate([clip.heights for clip in own]),
            {label: np.concatenate([clip.truth[label] for clip in own]) for label in own[0].truth},
        )
        for own in by_signer
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", choices=CORPORA)
    parser.add_argument("alone", type=Path, help="tables of `fyc asl run`")
    parser.add_argument("known", type=Path, help="tables of `fyc asl run --signer`")
    words = parser.parse_args()
    alone, known = (clips_of(CORPORA[words.corpus], tables) for tables in (words.alone, words.known))
    if not alone or alone.keys() != known.keys():
        raise SystemExit(
            f"the same sentences are needed in both: {words.alone} has {len(alone)}, {words.known} {len(known)}"
        )
    seconds = [len(clip.heights) / FPS for clip in alone.values()]
    print(
        f"SYNTHETIC, corpus {words.corpus}: {len(alone)} sentences of {min(seconds):.1f} to {max(seconds):.1f} s",
        end=", ",
    )
    print(f"{len({clip.signer for clip in alone.values()})} signers")
    ways = {"within a clip": lambda clips: clips, "all clips of a signer": together}
    for label in ("brow-raise", "brow-lower"):
        for way, gather in ways.items():
            first, second = (gather(list(clips.values())) for clips in (alone, known))
            signers = [clip.signer for clip in first]
            own, learned = ([clip.told(label) for clip in clips] for clips in (first, second))
            more = mean_interval(list(np.subtract(learned, own)), signers)
            print(f"{label}, {way}: {np.isfinite(own).sum()} of them", end=", ")
            print(f"rest of each clip {mean_interval(own, signers).text(digits=3)}", end=", ")
            print(f"signer learned {mean_interval(learned, signers).text(digits=3)}, more by {more.text(digits=3)}")


if __name__ == "__main__":
    main()
