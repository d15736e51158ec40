"""Sentences of nonmanual markers, scripted after the usual description (research notes, section 1).

- wh-question: lowered brows, a small quick shake of the head or a tilt
- yes/no question: raised brows and the head forward, held to the end of the clause
- negation: a larger, slower shake, sometimes with lowered brows
- topic: brows raised over the first phrase, then dropped; a slight tilt; a pause
- conditional: brows raised over the clause, then a pause with a blink

Nothing here was measured on signers. Sizes, rates and times are our guesses of what is plausible; they vary by signer
and by sentence. A marker has the phases of its leading movement: of the shake for negation, of the brows otherwise.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from fyc.asl.synthetic.motion import Style, Timeline, envelope
from fyc.asl.synthetic.script import Segment

Draw = np.random.Generator


class Sentence:
    """A timeline that is filled phrase by phrase.

    Args:
        timeline: to be filled.
        style: of the signer.
        rng: draws everything that varies.
    """

    def __init__(self, timeline: Timeline, style: Style, rng: Draw) -> None:
        self.timeline, self.style, self.rng = timeline, style, rng

    def brows(self, start: float, end: float, height: float) -> Segment:
        """Raise (or lower, below 0) the brows by about so many cm, later than the head by the signer's lag."""
        rng, style = self.rng, self.style
        onset, offset = rng.uniform(0.13, 0.3, 2) * style.pace
        early, late = style.lag + rng.uniform(-0.04, 0.04, 2)
        start, end = start + early, end + late
        label = "brow-raise" if height > 0 else "brow-lower"
        segment = self.timeline.mark("event", label, max(start, 0.05), end, onset, offset)
        size = height * style.brows * min(1.0, (end - start) / 0.5) ** 0.5  # short phrases fall short of their target
        inner, outer = size * rng.uniform(0.85, 1.15, 2)
        self.timeline.brows(segment, inner, outer if height > 0 else 0.8 * outer, style.uneven)
        return segment

    def turn(self, label: str, start: float, end: float, **degrees: float) -> Segment:
        """Hold the head turned, tilted or forward; cm for `x`, `y`, `z`."""
        rng, style = self.rng, self.style
        onset, offset = rng.uniform(0.2, 0.4, 2) * style.pace
        segment = self.timeline.mark("event", label, start, end, onset, offset)
        shape = envelope(self.timeline.frames, segment)
        for name, size in degrees.items():
            self.timeline.add(name, size * style.head * shape)
        return segment

    def shake(self, start: float, end: float, amplitude: float, hertz: float, label: str = "head-shake") -> Segment:
        """Shake the head, or nod."""
        rng, style = self.rng, self.style
        onset, offset = rng.uniform(0.1, 0.2), rng.uniform(0.15, 0.35)
        segment = self.timeline.mark("event", label, start, end, onset, offset)
        name = "pitch" if label == "head-nod" else "yaw"
        sign = 1 if rng.uniform() < 0.5 else -1
        self.timeline.swing(
            name, segment, sign * amplitude * style.head, hertz * style.shake, rng.uniform(0, 0.9), rng.uniform(0, 0.25)
        )
        return segment

    def pause_blink(self, at: float) -> None:
        """A blink on the border of two phrases."""
        self.timeline.blink(at + self.rng.uniform(-0.05, 0.08), self.rng.uniform(0.13, 0.25))

    def tilt(self, start: float, end: float, least: float, most: float) -> None:
        """Tilt the head to the signer's side."""
        side = self.style.side if self.rng.uniform() < 0.85 else -self.style.side
        self.turn("head-tilt", start, end, roll=side * self.rng.uniform(least, most))


def statement(sentence: Sentence, start: float, end: float) -> None:
    """No marker; sometimes nods of emphasis."""
    if sentence.rng.uniform() < 0.35:
        begin = sentence.rng.uniform(start, max(start, end - 0.6))
        sentence.shake(begin, begin + sentence.rng.uniform(0.4, 0.9), sentence.rng.uniform(2, 6), 2.2, "head-nod")


def wh_question(sentence: Sentence, start: float, end: float) -> None:
    """Lowered brows; a small quick shake in the later part, or a tilt, or both."""
    rng = sentence.rng
    leading = sentence.brows(start, end, -rng.uniform(0.25, 0.45))
    sentence.timeline.copy("marker", "wh-question", leading)
    manner = rng.uniform()
    if manner < 0.75:
        begin = start + rng.uniform(0, 0.5) * (end - start)
        sentence.shake(begin, end, rng.uniform(2, 5), rng.uniform(3, 4.8))
    if manner > 0.5:
        sentence.tilt(start, end, 3, 8)
    if rng.uniform() < 0.4:
        sentence.turn("head-forward", start, end, z=rng.uniform(1, 3), pitch=-rng.uniform(0, 3))


def yes_no_question(sentence: Sentence, start: float, end: float) -> None:
    """Raised brows and the head forward, to the end."""
    rng = sentence.rng
    leading = sentence.brows(start, end, rng.uniform(0.25, 0.5))
    sentence.timeline.copy("marker", "yes-no-question", leading)
    begin = start + rng.uniform(-0.1, 0.3)
    sentence.turn("head-forward", begin, end + 0.1, z=rng.uniform(2, 5), pitch=-rng.uniform(3, 9))


def negation(sentence: Sentence, start: float, end: float) -> None:
    """A shake over the clause; lowered brows every other time."""
    rng = sentence.rng
    leading = sentence.shake(start, end, rng.uniform(5, 13), rng.uniform(1.6, 3.2))
    sentence.timeline.copy("marker", "negation", leading)
    if rng.uniform() < 0.5:
        sentence.brows(start, end, -rng.uniform(0.12, 0.35))


def topic(sentence: Sentence, start: float, end: float) -> None:
    """Raised brows over a short phrase, often with a slight tilt; both drop before the next phrase."""
    rng = sentence.rng
    leading = sentence.brows(start, end, rng.uniform(0.25, 0.5))
    sentence.timeline.copy("marker", "topic", leading)
    if rng.uniform() < 0.7:
        sentence.tilt(start, end, 2, 6)


def conditional(sentence: Sentence, start: float, end: float) -> None:
    """Raised brows over a whole clause; then a pause and a blink."""
    rng = sentence.rng
    leading = sentence.brows(start, end, rng.uniform(0.25, 0.5))
    sentence.timeline.copy("marker", "conditional", leading)
    if rng.uniform() < 0.4:
        sentence.tilt(start, end, 2, 6)
    sentence.pause_blink(end + 0.05)


#: What a phrase does, how long it lasts and how long the pause after it is, in seconds (least and most).
PHRASES: dict[str, tuple[Callable[[Sentence, float, float], None], tuple[float, float], tuple[float, float]]] = {
    "statement": (statement, (1.0, 2.2), (0.25, 0.6)),
    "wh-question": (wh_question, (0.9, 2.0), (0.25, 0.6)),
    "yes-no-question": (yes_no_question, (0.9, 2.0), (0.25, 0.6)),
    "negation": (negation, (0.8, 1.8), (0.25, 0.6)),
    "topic": (topic, (0.55, 1.1), (0.3, 0.5)),
    "conditional": (conditional, (1.0, 2.2), (0.3, 0.6)),
}

#: Sentences as phrases; each signer signs all of them in turn.
SENTENCES = (
    ("statement",), ("wh-question",), ("yes-no-question",), ("negation",),
    ("topic", "statement"), ("topic", "wh-question"), ("topic", "yes-no-question"), ("topic", "negation"),
    ("conditional", "statement"), ("conditional", "wh-question"), ("conditional", "negation"),
    ("statement", "negation"), ("statement", "yes-no-question"), ("statement", "statement"),
)  # fmt: skip


def sign(phrases: tuple[str, ...], style: Style, rng: Draw, fps: float) -> Timeline:
    """Put the phrases of a sentence on a timeline, with what goes on besides.

    Args:
        phrases: keys of `PHRASES`.
        style: of the signer.
        rng: draws everything that varies.
        fps: frames a second.
    """
    at = rng.uniform(0.4, 0.8)
    places = []
    for phrase in phrases:
        _, lengths, pauses = PHRASES[phrase]
        end = at + rng.uniform(*lengths) * style.pace
        places.append((phrase, at, end))
        at = end + rng.uniform(*pauses) * style.pace
    timeline = Timeline(at + rng.uniform(0.2, 0.5), fps)
    sentence = Sentence(timeline, style, rng)
    timeline.rest(rng, style)
    for phrase, start, end in places:
        PHRASES[phrase][0](sentence, start, end)
    distract(sentence, places[0][1], places[-1][2], quiet=[place[1:] for place in places if place[0] != "statement"])
    return timeline


def distract(sentence: Sentence, start: float, end: float, quiet: list[tuple[float, float]]) -> None:
    """What means nothing for the grammar: blinks, mouthing, glances, flashes of the brows, a wrinkled nose.

    Args:
        sentence: where it goes.
        start, end: of the signing, in seconds.
        quiet: where neither brows nor head do anything else than the markers.
    """
    rng, timeline = sentence.rng, sentence.timeline
    length = timeline.frames / timeline.fps
    at = rng.exponential(1 / sentence.style.blinks)
    while at < length - 0.3:
        near = any(abs(at - part.start / timeline.fps) < 0.4 for part in timeline.segments if part.label == "blink")
        if not near:
            timeline.blink(at, rng.uniform(0.13, 0.22))
        at += 0.5 + rng.exponential(1 / sentence.style.blinks)
    _mouthing(sentence, start, end)
    for chance, act in ((0.3, _flash), (0.25, _glance), (0.15, _sneer)):
        if rng.uniform() < chance:
            begin = rng.uniform(start, end)
            stop = begin + rng.uniform(0.3, 0.6)
            if not any(begin < after + 0.2 and before - 0.2 < stop for before, after in quiet):
                act(sentence, begin, stop)


def _mouthing(sentence: Sentence, start: float, end: float) -> None:
    rng, timeline = sentence.rng, sentence.timeline
    at = start + rng.uniform(0, 0.3)
    while at < end - 0.25:
        stop = min(at + rng.uniform(0.2, 0.5), end)
        if rng.uniform() < 0.7:
            segment = timeline.mark("event", "mouth", at, stop, 0.1, 0.12)
            shape = envelope(timeline.frames, segment)
            timeline.add("mouth", rng.uniform(0.15, 0.9) * shape)
            timeline.add("spread", rng.uniform(-0.35, 0.35) * shape)
            timeline.add("puff", max(0.0, rng.uniform(-0.6, 0.5)) * shape)
        at = stop + rng.uniform(0.02, 0.2)


def _flash(sentence: Sentence, start: float, end: float) -> None:
    sentence.brows(start, end, sentence.rng.uniform(0.2, 0.45))


def _glance(sentence: Sentence, start: float, end: float) -> None:
    side = 1 if sentence.rng.uniform() < 0.5 else -1
    sentence.turn("head-turn", start, end + 0.3, yaw=side * sentence.rng.uniform(6, 18))


def _sneer(sentence: Sentence, start: float, end: float) -> None:
    segment = sentence.timeline.mark("event", "nose-wrinkle", start, end, 0.1, 0.15)
    sentence.timeline.add("nose", 0.3 * envelope(sentence.timeline.frames, segment))
