"""Named corpora of synthetic sentences with fixed seeds and sizes.

`fit` is for fitting, `check` for tuning, `held-out` for the figures that are published: its heads, its textures and its
brow field (B) are in no other corpus. None may be changed once a recognizer has been measured on it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from fyc.asl.synthetic.contrasts import Contrast, act
from fyc.asl.synthetic.expression import BrowField
from fyc.asl.synthetic.grammar import SENTENCES, sign
from fyc.asl.synthetic.heads import HEAD_SPLITS
from fyc.asl.synthetic.motion import Timeline, draw_style
from fyc.asl.synthetic.script import Occluder, Quality, Script, Shot, Signer
from fyc.asl.synthetic.seeds import generator

FPS = 30.0


@dataclass(frozen=True)
class Corpus:
    """Sentences and minimal pairs of the signers of a split.

    Attributes:
        name: of the corpus.
        split: of its heads and textures.
        brow_field: of all its signers.
        sentences: how many each signer signs.
        pairs: how many minimal pairs of each contrast each signer signs.
    """

    name: str
    split: str
    brow_field: BrowField
    sentences: int
    pairs: int

    @property
    def signers(self) -> int:
        """How many there are."""
        return HEAD_SPLITS[self.split]

    def __len__(self) -> int:
        return self.signers * self.sentences

    def signer(self, number: int) -> Signer:
        """A signer: each has a head, looks and a style of the same number."""
        return Signer(self.split, number, number, self.brow_field)

    def sentence(self, number: int) -> Script:
        """A sentence; neighbouring numbers belong to the same signer.

        Raises:
            IndexError: if there are fewer.
        """
        if not 0 <= number < len(self):
            raise IndexError(f"the corpus {self.name} has {len(self)} sentences")
        signer, index = divmod(number, self.sentences)
        rng = generator("sentence", self.name, signer, index)
        order = generator("order", self.name, signer).permutation(len(SENTENCES))
        phrases = SENTENCES[int(order[index % len(SENTENCES)])]
        timeline = sign(phrases, draw_style(self.split, signer), rng, FPS)
        hands = _hands(rng, timeline.frames) if rng.uniform() < 0.25 else ()
        return self._script(f"{self.name}-{number}", signer, timeline, rng, occluders=hands, phrases=phrases)

    def __iter__(self) -> Iterator[Script]:
        return (self.sentence(number) for number in range(len(self)))

    def contrast(self, contrast: Contrast) -> Iterator[tuple[Script, Script]]:
        """All minimal pairs of a contrast, signer by signer."""
        for signer in range(self.signers):
            for index in range(self.pairs):
                yield self.pair(contrast, signer, index)

    def pair(self, contrast: Contrast, signer: int, index: int) -> tuple[Script, Script]:
        """Two clips that differ in the contrast's cue alone; camera, background, noise are the same."""
        style = draw_style(self.split, signer)
        sides = []
        for side, marker in enumerate(contrast.markers):
            timeline = act(contrast, side, style, (self.name, signer, index), FPS)
            rng = generator("pair", self.name, contrast.name, signer, index)
            name = f"{self.name}-{contrast.name}-{signer}-{index}-{marker}"
            sides.append(self._script(name, signer, timeline, rng, phrases=(marker,), cue=contrast.cue))
        return sides[0], sides[1]

    def _script(
        self,
        name: str,
        signer: int,
        timeline: Timeline,
        rng: np.random.Generator,
        occluders: tuple[Occluder, ...] = (),
        phrases: tuple[str, ...] = (),
        cue: str = "",
    ) -> Script:
        curves, segments = timeline.finish(blur=float(rng.uniform(0.7, 1.3)))
        shot = draw_shot(rng)
        return Script(
            name, self.signer(signer), curves, (shot,), segments, occluders, quality=draw_quality(rng),
            fps=timeline.fps, phrases=phrases, cue=cue,
        )  # fmt: skip


#: Sizes are fixed: 24, 8 and 12 signers.
CORPORA = {
    "fit": Corpus("fit", "fit", "A", 20, 4),
    "check": Corpus("check", "calibration", "A", 14, 6),
    "held-out": Corpus("held-out", "held-out", "B", 20, 8),
}


def draw_shot(rng: np.random.Generator) -> Shot:
    """A camera at the usual distance, the head in the upper middle of the picture."""
    field = float(rng.uniform(35, 60))
    width = rng.uniform(0.2, 0.3)  # what part of the picture's width a head of 15.5 cm takes
    distance = 15.5 / width / (2 * np.tan(np.radians(field / 2)))
    x, y = rng.uniform(-0.08, 0.08) * 15.5 / width, rng.uniform(-8, -4)
    return Shot(0, field, (float(x), float(y), float(-distance)), int(rng.integers(1_000_000)))


def draw_quality(rng: np.random.Generator) -> Quality:
    """Mostly a good camera; a tenth of the clips are dark."""
    dark = rng.uniform() < 0.1
    return Quality(
        1.0,
        float(rng.uniform(0, 0.8)),
        float(rng.uniform(0, 0.5)),
        float(rng.uniform(0.25, 0.5) if dark else rng.uniform(0.85, 1.1)),
        float(rng.uniform(4, 9) if dark else rng.uniform(0.5, 3)),
    )


def _hands(rng: np.random.Generator, frames: int) -> tuple[Occluder, ...]:
    """A hand that comes up to the face once and goes down again."""
    length = int(rng.integers(12, 28))
    start = int(rng.integers(5, max(frames - length, 6)))
    side = 1 if rng.uniform() < 0.6 else -1
    target = (float(rng.uniform(-4, 4)), float(rng.uniform(-10, 2)), float(rng.uniform(9, 14)))
    away = (16.0 * side, -30.0, 14.0)
    angle = float(rng.uniform(0, 40) * -side)
    flat = float(rng.uniform(0.45, 1) * (1 if rng.uniform() < 0.5 else -1))
    path = (away, target, target, away)
    return (Occluder("hand", start, start + length, path, angle, flat, int(rng.integers(1_000_000))),)
