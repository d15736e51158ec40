"""Textures of heads, taken from real frames, laid out on one sheet for all heads.

What is real: the colours of the face, the ears, the hair and the neck of two persons who talk in the clips
`face-talking` (one man) and `face-speech`, `face-speech-2` (another). What is not: the back of the head, where colours
from the border of the head are stretched; the inside of the mouth; clothes. The frames are fetched and never stored.

A sheet is the same in every run on a machine; on another one the landmark network may differ in its last bits.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from fyc.asl.face.bundle import Bundle
from fyc.asl.face.detector import FaceDetector
from fyc.asl.face.landmarks import LandmarkNet, Region
from fyc.asl.face.mesh import POINTS, FaceMesh
from fyc.asl.synthetic.expression import Places
from fyc.asl.synthetic.heads import RINGS, Shell
from fyc.asl.synthetic.raster import cover, paint
from fyc.asl.synthetic.seeds import generator
from fyc.assets import fetch
from fyc.errors import VideoError

Array = NDArray[np.float64]
Image = NDArray[np.uint8]
Mask = NDArray[np.uint8]

#: Length of a side of the sheet, in texels.
SHEET = 640
_FACE_PART = 0.60
_RING_STEP = 0.145
#: Corners of the sheet, which no head uses: left, top, side.
MOUTH_PATCH, SKIN_PATCH, CLOTH_PATCH = (0, 0, 72), (0, SHEET - 72, 72), (SHEET - 72, SHEET - 72, 72)


@dataclass(frozen=True)
class Source:
    """A frame of a clip with a frontal face at rest.

    Attributes:
        clip: an asset.
        frame: its number, from 0.
    """

    clip: str
    frame: int


#: The frames, by split. The person of `held-out` is in no other split.
SOURCES = {
    "fit": tuple(Source("face-talking", frame) for frame in (300, 900, 1260, 1620)),
    "calibration": tuple(Source("face-talking", frame) for frame in (660, 1320)),
    "held-out": (
        Source("face-speech", 480), Source("face-speech", 840), Source("face-speech", 1320),
        Source("face-speech-2", 480), Source("face-speech-2", 720),
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Sheet:
    """The texture of a head.

    Attributes:
        image: (640, 640, 3) RGB.
        skin: (640, 640), 0 to 1, where skin is.
        face: (640, 640), 0 to 1, where the face is, with brows, eyes and mouth.
    """

    image: Image
    skin: NDArray[np.float32]
    face: NDArray[np.float32]


class Layout:
    """Where the vertices of face and shell lie on a sheet.

    Args:
        mesh: the canonical mesh.
        shell: the rings around it.
    """

    def __init__(self, mesh: FaceMesh, shell: Shell) -> None:
        face = SHEET * (0.5 + _FACE_PART * (mesh.uv - 0.5))
        outline = face[shell.outline]
        centre = outline.mean(axis=0)
        rings = [centre + (outline - centre) * (1 + _RING_STEP * ring) for ring in range(1, RINGS + 1)]
        self.triangles = np.concatenate([mesh.triangles, shell.triangles])
        self.points = np.concatenate([face, *rings, centre[None]])
        self.texels = self.points[self.triangles]
        self._open_mouth(mesh)
        self._close_back(outline, centre, shell)

    def _open_mouth(self, mesh: FaceMesh) -> None:
        """Triangles between the lips show the patch of the mouth."""
        places = Places.of(mesh)
        lips = np.concatenate([places.upper_lip, places.lower_lip, places.lip_corners])
        self.mouth = np.isin(mesh.triangles, lips).all(axis=1)
        corners = mesh.triangles[self.mouth]
        left, top, side = MOUTH_PATCH
        across = np.interp(mesh.vertices[corners, 0], (-2.2, 2.2), (left + 6, left + side - 6))
        down = np.where(np.isin(corners, places.upper_lip), top + 4, top + side - 4)
        down = np.where(np.isin(corners, places.lip_corners), top + side / 2, down)
        self.texels[: len(mesh.triangles)][self.mouth] = np.stack([across, down], axis=2)

    def _close_back(self, outline: Array, centre: Array, shell: Shell) -> None:
        """Triangles at the pole show what the last ring shows, a bit further out."""
        count = len(shell.outline)
        beyond = centre + (outline - centre) * (1 + _RING_STEP * (RINGS + 0.3))
        self.texels[-count:, 2] = beyond


def read_sheet(source: Source, bundle: Bundle, *, offline: bool = False) -> Sheet:
    """Make the sheet of a frame.

    Args:
        source: which frame of which clip.
        bundle: the networks that find the face, and the mesh.
        offline: do not use the network.

    Raises:
        AssetError: if the clip cannot be fetched.
        VideoError: FYC-V02 if the clip cannot be read so far.
    """
    frame = read_frame(fetch(source.clip, offline=offline), source.frame)
    (face, *_) = FaceDetector(bundle.detector).find(frame)
    net = LandmarkNet(bundle.landmarks)
    points = net.place(frame, Region.around(face)).points
    points = net.place(frame, Region.of_points(points)).points
    return sheet_of(frame, points[:POINTS, :2].astype(np.float64), bundle.mesh)


def read_frame(path: Path, number: int) -> Image:
    """(H, W, 3) RGB, a frame of a clip, counted from its beginning.

    Raises:
        VideoError: FYC-V02 if the clip cannot be read so far.
    """
    capture = cv2.VideoCapture(str(path))
    try:
        for _ in range(number + 1):
            if not capture.grab():
                raise VideoError(
                    "FYC-V02", "the clip cannot be read", where=f"{path}, frame {number}",
                    next="delete the file and fetch it again",
                )  # fmt: skip
        _, frame = capture.retrieve()
    finally:
        capture.release()
    return cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)  # type: ignore[return-value]


def sheet_of(frame: Image, points: Array, mesh: FaceMesh) -> Sheet:
    """Lay a face out on a sheet.

    Args:
        frame: (H, W, 3) RGB.
        points: (468, 2), landmarks of the face in it, in pixels.
        mesh: the canonical mesh.
    """
    shell = Shell(mesh)
    layout = Layout(mesh, shell)
    person = _person(frame, points, shell)
    filled = _filled(frame, person)
    places = np.concatenate([points, _around(points, shell, person)])
    coverage = cover(layout.points, np.zeros(len(layout.points)), layout.triangles, (SHEET, SHEET))
    image = np.empty((SHEET, SHEET, 3), np.uint8)
    image[:] = cv2.mean(filled, mask=person)[:3]
    image[coverage.part] = paint(coverage, filled, places[layout.triangles])
    inside = np.zeros((SHEET, SHEET, 1), bool)
    inside[coverage.part] = coverage.ids[..., None] > 0
    image = np.where(inside, image, cv2.GaussianBlur(image, (0, 0), 6))
    image = _without_blue(image)
    _patches(image, layout)
    return Sheet(image, _skin(image, layout), _face(layout, shell))


def _person(frame: Image, points: Array, shell: Shell) -> Mask:
    """Head, neck and shoulders in a frame, by GrabCut from the outline of the face."""
    outline = points[shell.outline]
    centre, size = outline.mean(axis=0), np.ptp(outline, axis=0)
    marks = np.full(frame.shape[:2], cv2.GC_BGD, np.uint8)
    head = (centre - (0, 0.12 * size[1]), size * (1.75, 1.75))
    cv2.ellipse(marks, (head[0].tolist(), head[1].tolist(), 0.0), int(cv2.GC_PR_BGD), -1)
    bottom, half = int(outline[:, 1].max() + 0.25 * size[1]), 0.27 * size[0]
    marks[int(centre[1]) : bottom, int(centre[0] - half) : int(centre[0] + half)] = cv2.GC_PR_FGD
    for factor, rise in ((1.12, 0), (1.0, 0.2)):
        hull = centre - (0, rise * size[1]) + factor * (outline - centre)
        cv2.fillPoly(marks, [np.round(hull).astype(np.int32)], int(cv2.GC_PR_FGD))
    cv2.fillPoly(marks, [np.round(outline).astype(np.int32)], int(cv2.GC_FGD))
    cv2.setRNGSeed(0)  # GrabCut starts its clusters with OpenCV's own generator
    cv2.grabCut(frame, marks, None, np.zeros((1, 65)), np.zeros((1, 65)), 4, cv2.GC_INIT_WITH_MASK)  # type: ignore[call-overload]
    person = np.isin(marks, (cv2.GC_FGD, cv2.GC_PR_FGD)).astype(np.uint8)
    return cv2.morphologyEx(person, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))  # type: ignore[return-value]


def _filled(frame: Image, person: Mask) -> Image:
    """The frame with the colour of the nearest pixel of the person everywhere else."""
    inner = cv2.erode(person, np.ones((3, 3), np.uint8), iterations=3)
    _, labels = cv2.distanceTransformWithLabels(1 - inner, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)
    colours = np.zeros((int(labels.max()) + 1, 3), np.uint8)
    colours[labels[inner > 0]] = frame[inner > 0]
    spread = colours[labels]
    soft = cv2.GaussianBlur(spread, (0, 0), 1.5)
    return np.where(inner[..., None] > 0, frame, soft)


def _around(points: Array, shell: Shell, person: Mask) -> Array:
    """(vertices, 2), where in the frame the rings of the shell take their colour: between the outline of the face and
    that of the person; behind the ears from the hair above them."""
    outline = points[shell.outline]
    centre = outline.mean(axis=0)
    outwards = outline - centre
    lengths = np.linalg.norm(outwards, axis=1)
    steps = np.linspace(0, 0.45, 46)
    samples = centre + outwards[:, None] * (1 + steps)[None, :, None]
    columns, rows = np.floor(samples).astype(np.intp).transpose(2, 0, 1)
    height, width = person.shape
    inside = (columns >= 0) & (rows >= 0) & (columns < width) & (rows < height)
    seen = np.where(inside, person[np.clip(rows, 0, height - 1), np.clip(columns, 0, width - 1)], 0) > 0
    reach = steps[np.argmin(seen, axis=1)] * (~seen.all(axis=1)) + steps[-1] * seen.all(axis=1)
    reach = np.clip(reach - 0.02, 0, 0.4 * shell.upper + 0.1)
    side = np.abs(outwards[:, 0]) / lengths * shell.upper
    rings = []
    for ring in range(1, RINGS + 1):
        part = ring / RINGS * (1 - side) + side * (0.9 if ring == 1 else 0.6)
        target = centre + outwards * (1 + reach * part - 0.06 * (1 - shell.upper))[:, None]
        if ring > 1:
            target = _towards_top(target, outline, reach, side)
        rings.append(target)
    return np.concatenate([*rings, centre[None]])


def _towards_top(target: Array, outline: Array, reach: Array, side: Array) -> Array:
    """Move places at the sides to the hair above the forehead."""
    centre = outline.mean(axis=0)
    offset = target - centre
    top = int(outline[:, 1].argmin())
    above = (outline[top, 1] - centre[1]) * (1 + reach[top] * (0.95 - 0.2 * side))
    turned = np.stack([0.4 * offset[:, 0], above], axis=1)
    weight = np.clip(2 * side - 0.6, 0, 1)[:, None]
    moved: Array = target + weight * (centre + turned - target)
    return moved


def _without_blue(image: Image) -> Image:
    """Heads are not blue, walls behind them are: their light on the border of the head is made grey."""
    lab = cv2.cvtColor(image, cv2.COLOR_RGB2LAB)
    blue = lab[..., 2] < 126
    lab[..., 1][blue] = 130
    lab[..., 2] = np.maximum(lab[..., 2], 130)
    return cv2.cvtColor(lab, cv2.COLOR_LAB2RGB)  # type: ignore[return-value]


def _patches(image: Image, layout: Layout) -> None:
    """The inside of the mouth, skin for the neck, grey cloth."""
    rng = generator("patches")
    left, top, side = MOUTH_PATCH
    mouth = np.zeros((side, side, 3), np.float64)
    mouth[:] = (70, 28, 28)
    mouth[: side // 4] = (150, 140, 128)  # upper teeth
    mouth[side // 2 :] = (115, 52, 52)  # tongue
    image[top : top + side, left : left + side] = cv2.GaussianBlur(mouth, (0, 0), 3).astype(np.uint8)
    cheek = layout.points[[205, 425]].astype(int)
    colour = np.mean([image[y - 8 : y + 8, x - 8 : x + 8].mean(axis=(0, 1)) for x, y in cheek], axis=0)
    for (left, top, side), tone in ((SKIN_PATCH, 0.82 * colour), (CLOTH_PATCH, np.array([128.0, 128, 128]))):
        grain = cv2.GaussianBlur(rng.normal(0, 12, (side, side)), (0, 0), 1.2)
        image[top : top + side, left : left + side] = np.clip(tone + grain[..., None], 0, 255).astype(np.uint8)


def _face(layout: Layout, shell: Shell) -> NDArray[np.float32]:
    """1 within the outline of the face, below the hair line; its border is soft."""
    face = np.zeros((SHEET, SHEET), np.float32)
    outline = layout.points[shell.outline]
    centre = outline.mean(axis=0)
    height = np.where(outline[:, 1] < centre[1], 0.82, 1.0)
    inner = centre + (outline - centre) * np.stack([np.full(len(outline), 0.95), height], axis=1)
    cv2.fillPoly(face, [np.round(inner).astype(np.int32)], 1.0)
    return cv2.GaussianBlur(face, (0, 0), 8)  # type: ignore[return-value]


def _skin(image: Image, layout: Layout) -> NDArray[np.float32]:
    """Where the colour is near that of the cheeks."""
    lab = cv2.cvtColor(image, cv2.COLOR_RGB2LAB).astype(np.float32)
    cheeks = layout.points[[205, 425, 50, 280, 4, 199]].astype(int)
    samples = np.concatenate([lab[y - 6 : y + 6, x - 6 : x + 6].reshape(-1, 3) for x, y in cheeks])
    distance = (lab - np.median(samples, axis=0)) / np.array([55, 12, 14], np.float32)
    near = np.clip(1.6 - np.linalg.norm(distance, axis=2), 0, 1)
    soft: NDArray[np.float32] = cv2.GaussianBlur(near, (0, 0), 3)
    return soft
