"""A stochastic, adaptive ensemble of trackers that does not lose the face: contribution 1 of Metaxas et al., LREC 2012.

The abstract of that paper names the ensemble; its form here is our own reading. Every tracker reads each frame. Their
readings are completed through the pose and the last shape of the face, and get energies that all share. One of them,
drawn by these, speaks. When none is any good, the face is held, searched for, and at last declared lost.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from fyc.asl.face.bundle import Bundle
from fyc.asl.face.camera import Camera
from fyc.asl.face.detector import Image
from fyc.asl.face.litert import Floats
from fyc.asl.face.mesh import POINTS
from fyc.asl.face.pose import Pose
from fyc.asl.tracker import Finder, Reading, Tracker
from fyc.asl.tracking.confidence import ConfidenceModel, Evidence, load_confidence
from fyc.asl.tracking.opinion import ALIGNED, Judge, Opinion
from fyc.asl.tracking.search import Candidate, FaceSearch, box_of
from fyc.asl.tracking.switching import Switch

Flags = NDArray[np.bool_]

#: Frames that a face is held without a sight of it, before it is declared lost.
_PATIENCE = 8
#: The most confidence in a face that is held: that it does not move meanwhile is a guess.
_UNSEEN = 0.4
#: While there is no sight of it, every so many frames are searched; while there is, a finder checks every so many.
_SEARCH_EVERY, _CHECK_EVERY = 2, 10
#: In the first frame, and in every frame without a sight that is a multiple of this, all finders search.
_THOROUGH_EVERY = 5
#: No more faces than this are tried, the largest, most central first.
_MOST_TRIED = 4
#: A found face that does not look like the one that was lost is taken for it after so many frames.
_ANOTHER_AFTER = 20
#: A face that only one finder sees is believed when it was seen so many times in a row.
_SIGHTINGS = 3
#: A tracker whose energy is higher than the lowest by so much is not drawn.
_HOPELESS = 0.3
#: Grey levels: a picture that varies less, when made small, shows nothing.
_BLANK = 3.0


@dataclass(frozen=True)
class TrackedFrame:
    """What the ensemble says of a frame.

    Attributes:
        time_s: of the frame, in seconds.
        points: (468, 2), vertices of the mesh in pixels, those that are not seen guessed; None when the face is lost.
        depths: (468,), as a network gives them (`Reading.depths`); None when no tracker that sees the face gives any.
        reason: why it is lost, or what should be known of this frame; mostly empty.
        pose: of the head, by the canonical face; None when lost.
        confidence: 0 to 1, the probability that the mean error is at most 10 % of the distance of the outer eye
            corners; 0 when lost.
        occluded: (468,), which landmarks something covers, or where they do not fit a face.
        expressive: whether the points follow lids, lips and brows.
        tracker: who spoke; `aligned` when the looks of the face moved the best reading, `held` when the last place is
            kept, `search` when the face was found here; empty when lost.
        box: (4,) left, top, right, bottom of the landmarks; None when lost.
        redetected: whether the face was found by a search in this frame.
        faces: how many there were in the last picture that was searched.
        evidence: what the confidence comes from; None when lost.
    """

    time_s: float
    points: Floats | None
    depths: Floats | None
    reason: str
    pose: Pose | None
    confidence: float
    occluded: Flags
    expressive: bool
    tracker: str
    box: Floats | None
    redetected: bool
    faces: int
    evidence: Evidence | None


class Ensemble:
    """Follows one face through successive frames, in constant memory.

    Args:
        bundle: networks and mesh.
        trackers, finders: classes by name, as `fyc.asl.tracker.trackers` and `finders` give them.
        seed: of the draws between trackers.
        face: which of several faces to follow, counted from 0, from left to right; None for the largest, most central.
        greedy: let the best tracker speak instead of drawing one.
        confidence: the model of confidence; None for the one that comes with fyc.
        judge: what judges readings; None for a new `Judge`. `fyc asl bench` gives some that lack a part.
    """

    def __init__(
        self,
        bundle: Bundle,
        trackers: Mapping[str, type[Tracker]],
        finders: Mapping[str, type[Finder]],
        *,
        seed: int = 0,
        face: int | None = None,
        greedy: bool = False,
        confidence: ConfidenceModel | None = None,
        judge: Judge | None = None,
    ) -> None:
        self._trackers = {name: cls(bundle) for name, cls in trackers.items()}
        self._search = FaceSearch(bundle, {name: cls(bundle) for name, cls in finders.items()})
        self._switch = Switch([*self._trackers, ALIGNED], seed=seed, greedy=greedy)
        self._judge = judge or Judge(bundle.mesh)
        self._confidence = confidence or load_confidence()
        self._face = face
        self._size = (0, 0)
        self._scores = dict.fromkeys(self._trackers, 0.0)
        self._last: Opinion | None = None
        self._blind = 0
        self._frames = 0
        self._faces = 0
        self._sightings = 0
        self._found = 0.5
        self._doubt = 0.0
        self._why = "no face was found"

    def step(self, image: Image, time_s: float) -> TrackedFrame:
        """The face in the next frame.

        Args:
            image: (H, W, 3) RGB.
            time_s: of the frame, in seconds.
        """
        if image.shape[:2] != self._size:
            self._size = (image.shape[0], image.shape[1])
            self._judge.camera = Camera.for_picture(image.shape[1], image.shape[0])
            self._last = None
        self._frames += 1
        grey: Image = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)  # type: ignore[assignment]
        if _blank(grey):
            self._blind += 1
            self._why = "the picture shows nothing"
            return self._lost(time_s)
        lost = self._blind > _PATIENCE
        searching = self._blind % _SEARCH_EVERY == 0 and (self._blind > 0 or self._last is None)
        opinions = [] if self._last is None or (lost and searching) else self._ask(image, grey, self._last)
        if sights := [opinion for opinion in opinions if opinion.sight]:
            return self._speak(image, sights, opinions, time_s)
        self._blind += 1
        self._why = "no tracker sees the face" if opinions else "no face was found"
        if searching or self._blind == 1:
            found, reason = self._find(image, grey)
            if found is not None:
                return self._restart(image, found, reason, time_s)
            self._why = reason or self._why
        return self._without_sight(grey, time_s)

    def _ask(self, image: Image, grey: Image, last: Opinion) -> list[Opinion]:
        """What the trackers say of a frame, completed and judged."""
        opinions = []
        for name, tracker in self._trackers.items():
            reading = tracker.track(image, last.points)
            if reading is None:
                continue
            usual = self._scores[name] or reading.score
            opinion = self._judge.judge(name, grey, reading, last, reading.score / max(usual, 1e-6))
            if opinion is not None:
                opinions.append(opinion)
                if opinion.sight:
                    self._scores[name] = usual + 0.05 * (reading.score - usual)
        if aligned := self._judge.aligned(grey, min(opinions, key=lambda opinion: opinion.energy, default=None), last):
            opinions.append(aligned)
        return opinions

    def _speak(self, image: Image, sights: list[Opinion], opinions: list[Opinion], time_s: float) -> TrackedFrame:
        """Draw who speaks, learn from it, and say how sure that is."""
        self._blind = 0
        best = min(opinion.energy for opinion in sights)
        energies = {opinion.name: opinion.energy for opinion in sights if opinion.energy < best + _HOPELESS}
        name = self._switch.choose(energies)
        chosen = next(opinion for opinion in sights if opinion.name == name)
        if chosen.depths is None:
            deep = [opinion for opinion in sights if opinion.depths is not None]
            chosen = replace(chosen, depths=min(deep, key=lambda opinion: opinion.energy).depths if deep else None)
        if self._frames % _CHECK_EVERY == 0:
            self._found = float(self._search.sees(image, box_of(chosen.points)))
        self._doubt += 0.2 * (best - self._doubt)
        evidence = self._evidence(chosen, opinions)
        self._judge.learn(chosen)
        self._last = chosen
        return self._frame(self._judge.expressed(chosen, sights), evidence, time_s, chosen.name)

    def _evidence(self, chosen: Opinion, opinions: list[Opinion]) -> Evidence:
        return self._judge.evidence(chosen, opinions, len(self._trackers), self._found, self._doubt)

    def _frame(
        self, opinion: Opinion, evidence: Evidence, time_s: float, tracker: str, reason: str = ""
    ) -> TrackedFrame:
        return TrackedFrame(
            time_s, opinion.points, opinion.depths, reason, opinion.pose, self._confidence.of(evidence),
            opinion.occluded, opinion.expressive, tracker, box_of(opinion.points), tracker == "search", self._faces,
            evidence,
        )  # fmt: skip

    def _without_sight(self, grey: Image, time_s: float) -> TrackedFrame:
        """The face where it was last, or lost."""
        if self._last is None or self._blind > _PATIENCE:
            return self._lost(time_s)
        held = self._judge.judge("held", grey, Reading(self._last.points, 1.0))
        held = replace(
            held or self._last, points=self._last.points, pose=self._last.pose, depths=None, expressive=False
        )
        self._doubt += 0.2 * (held.energy - self._doubt)
        frame = self._frame(held, self._evidence(held, []), time_s, "held", self._why)
        return replace(frame, confidence=min(frame.confidence, _UNSEEN))

    def _lost(self, time_s: float) -> TrackedFrame:
        nothing = np.zeros(POINTS, bool)
        return TrackedFrame(
            time_s, None, None, self._why, None, 0.0, nothing, False, "", None, False, self._faces, None
        )

    def _find(self, image: Image, grey: Image) -> tuple[Opinion | None, str]:
        """A face in the whole picture that two agree on, and what to say about it."""
        known = self._judge.knows
        thorough = (self._last is None and self._blind == 1) or self._blind % _THOROUGH_EVERY == 0
        candidates = self._search.propose(image, thorough=thorough)
        self._faces = len(candidates)
        if not candidates:
            self._sightings = 0
            return None, ""
        if self._face is not None and not known and self._face >= len(candidates):
            return None, f"there are only {len(candidates)} faces, and number {self._face} was asked for"
        best: Opinion | None = None
        for candidate in self._ordered(candidates, known=known):
            opinion = self._accepted(image, grey, candidate, known=known)
            if opinion is not None and (best is None or opinion.energy < best.energy):
                best = opinion
            if best is not None and not known:
                break
        chosen = "the largest, most central one" if self._face is None else f"number {self._face} from the left"
        several = len(candidates) > 1 and not known
        return best, f"{len(candidates)} faces; {chosen} is followed" if best is not None and several else ""

    def _ordered(self, candidates: list[Candidate], *, known: bool) -> list[Candidate]:
        """In which order faces are tried."""
        if self._face is not None and not known:
            return [sorted(candidates, key=lambda candidate: float(candidate.face.box[0]))[self._face]]
        centre = np.array([self._size[1], self._size[0]]) / 2

        def rank(candidate: Candidate) -> float:
            box = candidate.face.box
            off = float(np.linalg.norm((box[:2] + box[2:]) / 2 - centre)) / max(self._size)
            return -candidate.face.size / (1 + off)

        return sorted(candidates, key=rank)[:_MOST_TRIED]

    def _accepted(self, image: Image, grey: Image, candidate: Candidate, *, known: bool) -> Opinion | None:
        """The landmarks of a face that the network and one more agree on: a finder, or how the face looked."""
        reading = self._search.place(image, candidate)
        if reading is None:
            return None
        opinion = self._judge.judge("search", grey, reading)
        if opinion is None or not opinion.fits:
            return None
        if known:
            if opinion.matches:
                self._found = 1.0
                return opinion
            if self._blind < _ANOTHER_AFTER:
                return None
        self._sightings += 1
        seconded = self._search.seconded(image, candidate.face.box, but=candidate.finder)
        self._found = 1.0 if seconded else 0.5
        return opinion if seconded or self._sightings >= _SIGHTINGS else None

    def _restart(self, image: Image, found: Opinion, reason: str, time_s: float) -> TrackedFrame:
        """Follow a face that was found."""
        if not found.matches:
            self._judge.forget()
            found = replace(found, match=None, occluded=np.zeros(POINTS, bool))
        for tracker in self._trackers.values():
            tracker.start(image, found.points)
        self._blind, self._sightings, self._doubt = 0, 0, found.energy
        evidence = self._evidence(found, [])
        self._judge.learn(found)
        self._last = found
        return self._frame(found, evidence, time_s, "search", reason)


def _blank(grey: Image) -> bool:
    small = cv2.resize(grey, (32, 24), interpolation=cv2.INTER_AREA)
    return bool(small.std() < _BLANK)
