"""Synthetic sentences and minimal pairs with what was measured in them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fyc.asl.bench.recognition_figures import true_segments
from fyc.asl.measures import Measures
from fyc.asl.output.csv_read import read_csv
from fyc.asl.recognition.training import Example
from fyc.asl.synthetic import CONTRASTS, Corpus
from fyc.asl.synthetic.script import Script


@dataclass(frozen=True)
class MeasuredClip:
    """A sentence, or a side of a minimal pair.

    Attributes:
        script: what happens in it.
        measures: what was measured.
        contrast, side: of a minimal pair: the name of its contrast, and 0 or 1; empty and 0 for a sentence.
    """

    script: Script
    measures: Measures
    contrast: str = ""
    side: int = 0

    @property
    def signer(self) -> int:
        """Number of the signer."""
        return self.script.signer.head

    @property
    def example(self) -> Example:
        """The clip with what is true in it, to train on."""
        events, markers = (true_segments(self.script, tier) for tier in ("event", "marker"))
        return Example(self.measures, events, markers, f"signer {self.signer}")


def read_clips(corpus: Corpus, tables: Path) -> list[MeasuredClip]:
    """All clips of a corpus whose tables are in a folder, through its depth; in doubtful frames nothing is known.

    Args:
        corpus: whose clips they are.
        tables: of `fyc asl run`, with the names that `fyc asl bench films` gave to the films.

    Raises:
        ElanError: FYC-E08 if one is damaged.
    """
    found = []
    for path in sorted(tables.rglob(f"{corpus.name}-*.csv")):
        name, measures = path.stem.removeprefix(f"{corpus.name}-"), read_csv(path).trusted()
        if name.isdigit():
            found.append(MeasuredClip(corpus.sentence(int(name)), measures))
            continue
        contrast = next(contrast for contrast in CONTRASTS if name.startswith(f"{contrast.name}-"))
        signer, index, marker = name.removeprefix(f"{contrast.name}-").split("-", 2)
        side = contrast.markers.index(marker)
        script = corpus.pair(contrast, int(signer), int(index))[side]
        found.append(MeasuredClip(script, measures, contrast.name, side))
    return found


def parted(clips: Sequence[MeasuredClip]) -> tuple[list[MeasuredClip], list[MeasuredClip]]:
    """Sentences, and sides of minimal pairs."""
    return [clip for clip in clips if not clip.contrast], [clip for clip in clips if clip.contrast]
