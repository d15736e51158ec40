"""What is known of the labels that a recognizer learns: how many there are, and how well it finds those of others."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from fyc.asl.recognition.context import folds
from fyc.asl.recognition.events import RULES, detect
from fyc.asl.recognition.features import extract
from fyc.asl.recognition.phases import PhasedSegment
from fyc.asl.recognition.recognizer import Recognizer
from fyc.asl.recognition.training import Example
from fyc.asl.segments import Score, Segment, score

#: Videos are parted so many times; each part is judged by a recognizer that was trained on the others.
PARTS = 5
#: A label with fewer examples is learned, but hardly well.
FEW = 10


@dataclass(frozen=True)
class Label:
    """A marker or an event in annotated videos.

    Attributes:
        name: of it.
        count: how many annotations there are.
        seconds: how long they are together.
        signers: how many sign them.
    """

    name: str
    count: int
    seconds: float
    signers: int

    @property
    def warnings(self) -> list[str]:
        """What makes it doubtful, one sentence each."""
        found = [f"{self.name!r}: only {self.count} example{'s' * (self.count != 1)}"] if self.count < FEW else []
        return found + ([f"{self.name!r} occurs with one signer only and is not judged"] if self.signers < 2 else [])


@dataclass
class Judgement:
    """Scores in videos of signers that the recognizer was not trained on, by label; a label of one signer has none.

    Attributes:
        parts: how many recognizers were trained.
        markers, events: of what they found.
        rules: of what `fyc.asl.recognition.events.detect` finds in the same videos.
    """

    parts: int = 0
    markers: dict[str, Score] = field(default_factory=dict)
    events: dict[str, Score] = field(default_factory=dict)
    rules: dict[str, Score] = field(default_factory=dict)

    def rules_instead(self, classes: Sequence[str]) -> tuple[str, ...]:
        """Those of some events that the rules find no worse; what could not be judged is left to the rules, too."""
        return tuple(
            label
            for label in classes
            if label in RULES
            and (label not in self.events or (self.rules[label].f1 or 0.0) >= (self.events[label].f1 or 0.0))
        )


def labels(segments: Iterable[tuple[str, Sequence[Segment | PhasedSegment]]]) -> list[Label]:
    """The labels of segments, each with who signs it, sorted by name."""
    found: dict[str, list[tuple[str, float]]] = defaultdict(list)
    for signer, parts in segments:
        for part in parts:
            found[part.label].append((signer, part.end_s - part.start_s))
    return [
        Label(name, len(parts), sum(length for _, length in parts), len({signer for signer, _ in parts}))
        for name, parts in sorted(found.items())
    ]


def judge(
    examples: Sequence[Example], train: Callable[[Sequence[Example]], Recognizer], report: Callable[[str], None]
) -> Judgement:
    """Train on some signers and score on the others, by turns, so that each is scored once.

    Args:
        examples: annotated videos, each with its signer.
        train: makes a recognizer of some of them.
        report: is told what is being done.
    """
    places = folds([example.signer for example in examples], PARTS).tolist()
    judgement = Judgement(len(set(places)))
    if judgement.parts < 2:
        return Judgement()
    for part in range(judgement.parts):
        report(f"judging, {part + 1} of {judgement.parts}")
        others = [example for example, place in zip(examples, places, strict=True) if place != part]
        recognizer = train(others) if any(one.markers or one.events for one in others) else None
        for example, place in zip(examples, places, strict=True):
            if place == part:
                _judge_video(example, recognizer, judgement)
    _forget_single(examples, judgement)
    return judgement


def _judge_video(example: Example, recognizer: Recognizer | None, judgement: Judgement) -> None:
    found = None if recognizer is None else recognizer.recognise(example.measures)
    by_rules = [event.plain for event in detect(extract(example.measures))]
    events = [] if found is None or recognizer is None or not recognizer.level_one.classes else found.events
    for scores, ours, theirs in (
        (judgement.markers, [part.plain for part in found.markers] if found else [], example.markers),
        (judgement.events, [part.plain for part in events], example.events),
        (judgement.rules, by_rules, example.events),
    ):
        true = [Segment(part.start_s, part.end_s, part.label) for part in theirs]
        for label, one in score(ours, true, duration_s=float(example.measures.time_s[-1])).items():
            scores[label] = scores.get(label, Score()) + one


def _forget_single(examples: Sequence[Example], judgement: Judgement) -> None:
    """Leave out labels that are annotated with fewer than two signers: no recognizer could learn and find them."""
    for scores, parts in (
        (judgement.markers, [(one.signer, one.markers) for one in examples]),
        (judgement.events, [(one.signer, one.events) for one in examples]),
        (judgement.rules, [(one.signer, one.events) for one in examples]),
    ):
        judged = {label.name for label in labels(parts) if label.signers > 1}
        for label in set(scores) - judged:
            del scores[label]
