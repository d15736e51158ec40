"""Minimal pairs: two clips of one signer that differ in one cue and in nothing else. Synthetic."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from fyc.asl.synthetic.grammar import Sentence, distract
from fyc.asl.synthetic.motion import Style, Timeline
from fyc.asl.synthetic.script import Segment
from fyc.asl.synthetic.seeds import generator


@dataclass(frozen=True)
class Contrast:
    """What two markers differ in.

    Attributes:
        name: of the contrast.
        markers: the two.
        cue: what they differ in.
    """

    name: str
    markers: tuple[str, str]
    cue: str


#: In each, everything else is the same to the last bit, noise included.
CONTRASTS = (
    Contrast("wh-negation", ("wh-question", "negation"), "brows: lowered or at rest under the same shake"),
    Contrast("topic-yes-no", ("topic", "yes-no-question"), "head: at rest or forward under the same raised brows"),
    Contrast("conditional-topic", ("conditional", "topic"), "timing: the brows stay up over the clause or drop early"),
    Contrast(
        "conditional-yes-no", ("conditional", "yes-no-question"), "what follows: a clause after a blink, or the end"
    ),
)


def act(contrast: Contrast, side: int, style: Style, name: tuple[str | int, ...], fps: float) -> Timeline:
    """One side of a pair.

    Args:
        contrast: which.
        side: 0 or 1, the first or the second marker.
        style: of the signer.
        name: of the pair, the seed of all that both sides share.
        fps: frames a second.
    """
    rng = generator("contrast", contrast.name, *name)
    start = rng.uniform(0.4, 0.7)
    end = start + rng.uniform(1.3, 1.8) * style.pace
    timeline = Timeline(end + rng.uniform(1.5, 2.0), fps)
    timeline.rest(rng, style)
    sentence = Sentence(timeline, style, rng)
    label = contrast.markers[side]
    if contrast.name == "wh-negation":
        leading = _shaken(sentence, start, end, lowered=side == 0)
    elif contrast.name == "topic-yes-no":
        leading = _raised(sentence, start, end, forward=side == 1)
    elif contrast.name == "conditional-topic":
        leading = _cut_short(sentence, start, end, short=side == 1)
    else:
        leading = _followed(sentence, start, end, followed=side == 0)
    timeline.copy("marker", label, leading)
    return timeline


def _continue(sentence: Sentence, start: float, end: float) -> None:
    """The clause that follows, with mouthing, blinks and no marker."""
    distract(sentence, start, end, quiet=[(start, end)])


def _shaken(sentence: Sentence, start: float, end: float, *, lowered: bool) -> Segment:
    rng = sentence.rng
    shake = sentence.shake(start, end, rng.uniform(4, 8), rng.uniform(2.3, 3.5))
    height = -rng.uniform(0.25, 0.45)
    aside = Timeline(sentence.timeline.frames / sentence.timeline.fps, sentence.timeline.fps)
    brows = Sentence(sentence.timeline if lowered else aside, sentence.style, rng).brows(start, end, height)
    _continue(sentence, start, end)
    return brows if lowered else shake


def _raised(sentence: Sentence, start: float, end: float, *, forward: bool) -> Segment:
    rng = sentence.rng
    brows = sentence.brows(start, end, rng.uniform(0.25, 0.5))
    aside = Timeline(sentence.timeline.frames / sentence.timeline.fps, sentence.timeline.fps)
    mover = Sentence(sentence.timeline if forward else aside, sentence.style, rng)
    mover.turn("head-forward", start, end, z=rng.uniform(2, 5), pitch=-rng.uniform(3, 9))
    _continue(sentence, start, end + 1)
    return brows


def _cut_short(sentence: Sentence, start: float, end: float, *, short: bool) -> Segment:
    stop = start + sentence.rng.uniform(0.5, 0.6) * (end - start)
    brows = sentence.brows(start, stop if short else end, sentence.rng.uniform(0.3, 0.45))
    _continue(sentence, start, end + 1)
    return brows


def _followed(sentence: Sentence, start: float, end: float, *, followed: bool) -> Segment:
    rng = sentence.rng
    brows = sentence.brows(start, end, rng.uniform(0.25, 0.5))
    rest = replace(sentence.style, blinks=0.05)
    quiet = Sentence(sentence.timeline, rest, rng)
    _continue(quiet, start, end)
    aside = Timeline(sentence.timeline.frames / sentence.timeline.fps, sentence.timeline.fps)
    after = Sentence(sentence.timeline if followed else aside, rest, np.random.default_rng(int(rng.integers(2**31))))
    after.pause_blink(end + 0.1)
    distract(after, end + 0.4, end + 1.3, quiet=[(end, end + 1.3)])
    after.shake(end + 0.5, end + 1.1, after.rng.uniform(3, 6), 2.2, "head-nod")
    return brows
