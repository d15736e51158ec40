"""What a reading of a frame is worth: it is completed, and judged by the looks and the shape of the face."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from fyc.asl.face.camera import Camera
from fyc.asl.face.deformation import load_basis
from fyc.asl.face.detector import Image
from fyc.asl.face.litert import Floats
from fyc.asl.face.mesh import POINTS, FaceMesh
from fyc.asl.face.pose import Pose
from fyc.asl.tracker import Reading
from fyc.asl.tracking.alignment import align
from fyc.asl.tracking.appearance import AppearanceModel, Match, View
from fyc.asl.tracking.confidence import Evidence
from fyc.asl.tracking.shape_memory import ShapeMemory
from fyc.asl.tracking.shape_prior import ShapePrior

Flags = NDArray[np.bool_]

#: Name of the opinion that comes from the looks of the face, not from a tracker.
ALIGNED = "aligned"
#: A face is known after so many views. A found one matches if its similarity is at least this.
KNOWN, MATCHING = 30, 0.6
#: A frame with less similarity, or of which more is covered, is no sight of the face; nor one with a larger misfit.
_LEAST_SIMILARITY, _MOST_COVERED, _MOST_MISFIT = 0.45, 0.7, 0.08
#: The looks guide the pose when at least this part of the face is covered.
_ALIGNED_FROM = 0.1
#: Looks and shape are learned from frames that are at least this similar, less so while little is known.
_LEARNED_FROM = 0.75
#: Weights of the energies beside the cost of appearance.
_MISFIT, _PRIOR, _UNSTEADY = 5.0, 0.5, 0.2
#: A landmark whose error by the shape prior is larger is wrong, in cm.
_WRONG = 0.1
#: Distance between trackers when there is only one, in distances of the eyes.
_ALONE = 0.3
_EYE_CORNERS = (33, 263)
#: Two agree on where the face is when, aligned, they are no further apart, in distances of the outer eye corners.
_AGREED = 0.05


@dataclass(frozen=True)
class Opinion:
    """A completed reading, and how good it is.

    Attributes:
        name: of the tracker.
        points: (468, 2), pixels.
        depths: (468,), or None if the tracker gives none.
        pose: of the head.
        view: the face in the canonical view.
        match: how it agrees with what is known of its looks; None when nothing is known.
        prior: energy of the shape prior.
        occluded: (468,), landmarks that are covered or wrong.
        steady: the tracker's own score as a part of its running mean, at most 2.
        energy: what all trackers are judged by; lower is better.
        known: 0 to 1, how well the looks of the face are known. One look at a dark, noisy face says little.
        expressive: whether the points follow lids, lips and brows.
    """

    name: str
    points: Floats
    depths: Floats | None
    pose: Pose
    view: View
    match: Match | None
    prior: float
    occluded: Flags
    steady: float
    energy: float
    known: float
    expressive: bool

    @property
    def fits(self) -> bool:
        """Whether this has the shape of a face."""
        return self.pose.error <= _MOST_MISFIT

    @property
    def sight(self) -> bool:
        """Whether this can be the face that is followed."""
        match = self.match
        if not self.fits or match is None:
            return self.fits
        covered = self.known >= 1 and match.share > _MOST_COVERED
        return match.similarity >= _LEAST_SIMILARITY * self.known and not covered

    @property
    def matches(self) -> bool:
        """Whether a face that was found looks like the one that was followed."""
        match = self.match
        return match is not None and match.similarity >= MATCHING and match.share <= _MOST_COVERED


class Judge:
    """Knows the face that is followed, and judges readings by it.

    Args:
        mesh: the canonical mesh.
    """

    def __init__(self, mesh: FaceMesh) -> None:
        basis = load_basis()
        self._rigidity = basis.rigidity()
        self.looks = AppearanceModel(mesh)
        self.memory = ShapeMemory(mesh.vertices, self._rigidity)
        self.prior = ShapePrior(mesh, basis)
        self.camera = Camera.for_picture(1, 1)

    @property
    def known(self) -> float:
        """0 to 1, how well the looks of the face are known."""
        return min(self.looks.views / KNOWN, 1.0)

    @property
    def knows(self) -> bool:
        """Whether the looks of the face are known."""
        return self.known >= 1

    def forget(self) -> None:
        """Another face is followed from now on."""
        self.looks.forget()
        self.memory.forget()

    def judge(
        self, name: str, grey: Image, reading: Reading, last: Opinion | None = None, steady: float = 1.0
    ) -> Opinion | None:
        """Complete a reading through the pose and the last shape, and judge it; None if it has no pose.

        Args:
            name: of the tracker.
            grey: (H, W).
            reading: what it says.
            last: who spoke in the frame before; what was covered there is not believed.
            steady: the reading's score as a part of what is usual.
        """
        points, nothing = reading.points, np.zeros(POINTS, bool)
        covered = nothing if last is None else last.occluded
        pose = self.memory.pose(points, covered, self.camera, None if last is None else last.pose)
        if pose is None or pose.translation[2] > -1 or not np.isfinite(pose.error):
            return None
        filled = self.memory.complete(points, nothing, pose, self.camera)
        prior = self.prior.fit(filled, self.memory.shape, pose, self.camera)
        whole = self.memory.complete(points, covered, pose, self.camera)
        view = self.looks.see(grey, whole, float(pose.angles[0]))
        match = self.looks.compare(view)
        occluded = prior.wrong > _WRONG
        if match is not None:
            occluded |= self.looks.at_landmarks(match.covered)
        opinion = Opinion(
            name, whole, reading.depths, pose, view, match, prior.energy, occluded, min(steady, 2.0), 0.0, self.known,
            reading.expressive,
        )  # fmt: skip
        return replace(opinion, energy=_energy(opinion))

    def aligned(self, grey: Image, best: Opinion | None, last: Opinion) -> Opinion | None:
        """The best opinion, moved to where the part of the face that is not covered looks right; None if all is seen.

        Args:
            grey: (H, W).
            best: of the opinions of the trackers.
            last: who spoke in the frame before.
        """
        if best is None or best.match is None or best.match.share < _ALIGNED_FROM or not self.knows:
            return None
        shape, covered = self.memory.shape, best.match.covered
        found = align(self.looks, grey, best.points, shape, best.pose, self.camera, covered)
        if found is None:
            return None
        return self.judge(ALIGNED, grey, Reading(found[0], 1.0, best.depths, best.expressive), last, best.steady)

    def expressed(self, chosen: Opinion, others: Sequence[Opinion]) -> Opinion:
        """What was chosen, with what lids, lips and brows do as another has it, if both agree on where the face is.

        Args:
            chosen: who speaks; it says where the face is.
            others: all who see the face.
        """
        if chosen.expressive:
            return chosen
        for other in sorted(others, key=lambda opinion: opinion.energy):
            if not other.expressive:
                continue
            moved = _onto(other.points, chosen.points, self._rigidity)
            apart = np.linalg.norm(moved - chosen.points, axis=1)
            eyes = float(np.linalg.norm(np.subtract(*chosen.points[list(_EYE_CORNERS)])))
            if np.average(apart, weights=self._rigidity) < _AGREED * eyes:
                return replace(chosen, points=moved, depths=other.depths, expressive=True)
        return chosen

    def learn(self, opinion: Opinion) -> None:
        """Adapt looks and shape to a frame, where nothing covers the face."""
        match = opinion.match
        if match is not None and match.similarity < _LEARNED_FROM * self.known:
            return
        facing = np.zeros(POINTS, bool)
        facing[self.looks.facing_landmarks(opinion.points)] = True
        self.memory.learn(opinion.points, facing & ~opinion.occluded, opinion.pose, self.camera)
        self.looks.learn(opinion.view, None if match is None else match.covered)

    def evidence(
        self, chosen: Opinion, opinions: Sequence[Opinion], trackers: int, found: float, doubt: float
    ) -> Evidence:
        """What speaks for and against the opinion that was chosen.

        Args:
            chosen: the opinion.
            opinions: of all that said anything.
            trackers: how many there are.
            found, doubt: as in `Evidence`.
        """
        right, left = _EYE_CORNERS
        eyes = float(np.linalg.norm(self.memory.shape[left] - self.memory.shape[right]))
        size = eyes * self.camera.focal / max(-float(chosen.pose.translation[2]), 1.0)
        readings = [opinion for opinion in opinions if opinion.name != ALIGNED]
        others = [opinion for opinion in readings if opinion.name != chosen.name]
        seen = ~chosen.occluded if not chosen.occluded.all() else np.ones(POINTS, bool)
        away = [float(np.median(np.linalg.norm(o.points - chosen.points, axis=1)[seen])) / size for o in others]
        match = chosen.match
        return Evidence(
            known=self.known,
            similarity=0.0 if match is None else match.similarity,
            covered=0.0 if match is None else match.share,
            hidden=1 - float(chosen.view.seen.mean()) / self.looks.extent,
            misfit=min(chosen.pose.error, 0.2),
            prior=min(chosen.prior, 2.0),
            speaking=len(readings) / max(trackers, 1),
            nearest=min([*away, _ALONE]),
            farthest=min(max(away, default=_ALONE), _ALONE),
            steady=min((opinion.steady for opinion in readings), default=0.0),
            found=found,
            turned=float(np.degrees(np.arccos(np.clip(chosen.pose.rotation[2, 2], -1, 1)))) / 90,
            doubt=min(doubt, 3.0),
        )


def _onto(points: Floats, target: Floats, weights: NDArray[np.float64]) -> Floats:
    """Points (N, 2) after the shift, turn and scaling that bring them nearest to a target (N, 2)."""
    w = weights / weights.sum()
    ours, theirs = (part @ (1, 1j) for part in (points.astype(np.float64), target.astype(np.float64)))
    centred, middle = ours - w @ ours, w @ theirs
    turn = (w * centred.conj()) @ (theirs - middle) / (w @ np.abs(centred) ** 2)
    moved = turn * centred + middle
    return np.stack([moved.real, moved.imag], axis=1).astype(np.float32)


def _energy(opinion: Opinion) -> float:
    """Appearance, fit of pose and shape, and own score."""
    looks = 0.0 if opinion.match is None else opinion.match.cost
    unsteady = max(0.0, 1 - opinion.steady)
    return looks + _MISFIT * opinion.pose.error + _PRIOR * opinion.prior + _UNSTEADY * unsteady
