"""Render scripts: pictures with their ground truth, one by one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np
from numpy.typing import NDArray

from fyc.asl.face.bundle import Bundle
from fyc.asl.face.camera import Camera
from fyc.asl.face.mesh import POINTS
from fyc.asl.synthetic import body
from fyc.asl.synthetic.body import PIVOT, place_body
from fyc.asl.synthetic.looks import Creases, Looks, colour, draw_looks, plain_looks
from fyc.asl.synthetic.occluders import Cutout
from fyc.asl.synthetic.picture import CameraFaults, background
from fyc.asl.synthetic.projection import HEIGHT, WIDTH, FrameTruth, Projection, Stage
from fyc.asl.synthetic.raster import Coverage, cover, hidden, paint
from fyc.asl.synthetic.script import Script, Shot, Signer
from fyc.asl.synthetic.textures import CLOTH_PATCH, SKIN_PATCH, SOURCES, Layout, Sheet, Source, read_sheet

Array = NDArray[np.float64]
Indices = NDArray[np.intp]
Image = NDArray[np.uint8]


@dataclass(frozen=True)
class Frame:
    """A synthetic picture.

    Attributes:
        image: (480, 640, 3) RGB.
        truth: what is in it.
    """

    image: Image
    truth: FrameTruth


@dataclass(frozen=True)
class Person:
    """A signer, ready to be drawn.

    Attributes:
        sheet: (640, 640, 3) RGB.
        creases: that come with the brows.
        shell: (145, 3), the rings around the face at rest, cm.
        outline: (36, 3), the outline of the face at rest, cm.
        light, directed: as in `Looks`.
    """

    sheet: Image
    creases: Creases
    shell: Array
    outline: Array
    light: Array
    directed: float

    def patch(self, patch: tuple[int, int, int]) -> Array:
        """(3,), the mean colour of a patch of the sheet."""
        left, top, side = patch
        mean: Array = self.sheet[top : top + side, left : left + side].mean(axis=(0, 1))
        return mean


class Studio(Stage):
    """Renders scripts.

    Textures are made when they are first needed and kept, a few megabytes each; pictures are not kept.

    Args:
        bundle: the networks that find faces in the source frames, and the mesh.
        offline: do not fetch clips.
    """

    def __init__(self, bundle: Bundle, *, offline: bool = False) -> None:
        super().__init__(bundle.mesh)
        self.bundle, self._offline = bundle, offline
        self._sheets: dict[Source, Sheet] = {}
        self._layout = Layout(self.mesh, self.shell)
        count = POINTS + self.shell.vertices
        heads = self._layout.triangles
        self._triangles = np.concatenate([heads, body.TRIANGLES + count])
        self._texels = np.concatenate([self._layout.texels, body.TEXELS])
        self._layers = np.repeat([1, 0], [len(heads), len(body.TRIANGLES)])

    def looks(self, signer: Signer) -> Looks:
        """How a signer looks."""
        if signer.plain:
            return plain_looks([source for sources in SOURCES.values() for source in sources][signer.looks])
        return draw_looks(signer.split, signer.looks)

    def person(self, signer: Signer) -> Person:
        """A signer, ready to be drawn.

        Raises:
            AssetError: if a clip cannot be fetched.
            VideoError: if it cannot be read.
        """
        looks, head = self.looks(signer), self.head(signer)
        sheet = colour(looks, self._sheet(looks.source), self._sheet(looks.second))
        creases = Creases(looks, self.mesh, self._layout)
        outline = head.face[self.shell.outline]
        return Person(sheet, creases, self.shell.place(head), outline, np.array(looks.light), looks.directed)

    def _sheet(self, source: Source) -> Sheet:
        if source not in self._sheets:
            self._sheets[source] = read_sheet(source, self.bundle, offline=self._offline)
        return self._sheets[source]

    def render(self, script: Script) -> Iterator[Frame]:
        """The frames of a script, drawn when they are asked for.

        Raises:
            AssetError: if a clip for the textures cannot be fetched.
            VideoError: if it cannot be read.
        """
        projection = self.project(script)
        person = self.person(script.signer)
        skin, cloth = person.patch(SKIN_PATCH) / 0.82, person.patch(CLOTH_PATCH)
        cutouts = [Cutout(occluder, skin, cloth) for occluder in script.occluders]
        faults = CameraFaults(script.quality, script.shots[0].background, WIDTH, HEIGHT)
        scene, shown = None, -1
        for number in range(script.frames):
            shot = int(projection.shots[number])
            if scene is None or shot != shown:
                scene, shown = self._scene(script.shots[shot], projection.cameras[shot]), shot
            yield self._frame(projection, number, person, cutouts, faults, scene)

    def _scene(self, shot: Shot, camera: Camera) -> Image:
        """The background of a shot, with the person in it who does not sign."""
        picture = background(shot.background, WIDTH, HEIGHT)
        if shot.bystander is None:
            return picture
        side = 1 if shot.place[0] <= 0 else -1
        away = Shot(0, shot.field_of_view, (shot.place[0] + 26 * side, shot.place[1] - 2, shot.place[2] - 14), 0)
        still = Script("bystander", shot.bystander, np.zeros((1, 16)), (away,))
        person = self.person(shot.bystander)
        self._draw(self.project(still), 0, person, picture)
        return picture

    def _frame(
        self,
        projection: Projection,
        number: int,
        person: Person,
        cutouts: list[Cutout],
        faults: CameraFaults,
        scene: Image,
    ) -> Frame:
        script = projection.script
        if script.black(number):
            return Frame(faults.take(np.zeros_like(scene), number), projection.frame(number))
        picture = scene.copy()
        drawing = self._draw(projection, number, person, picture)
        if script.quality.shutter > 0 and number > 0 and projection.shots[number] == projection.shots[number - 1]:
            motion = (projection.points[number] - projection.points[number - 1]).mean(axis=0)
            picture = faults.smear(picture, drawing.mask, motion)
        over = np.zeros((HEIGHT, WIDTH), np.uint8)
        shot = script.shots[projection.shots[number]]
        for occluder, cutout in zip(script.occluders, cutouts, strict=True):
            if occluder.start <= number < occluder.end:
                origin = np.array(shot.place) - PIVOT
                camera = projection.cameras[projection.shots[number]]
                over = np.maximum(over, cutout.draw(picture, camera, origin, number))
        truth = projection.frame(
            number, drawing.visible & ~_under(over, projection.points[number]), drawing.covered(over)
        )
        return Frame(faults.take(picture, number), truth)

    def _draw(self, projection: Projection, number: int, person: Person, picture: Image) -> Drawing:
        """Draw a person into a picture, in place."""
        script, rotation = projection.script, projection.rotations[number]
        face, translation = projection.faces[number], projection.translations[number]
        shot = int(projection.shots[number])
        moved = self.shell.follow(face[self.shell.outline] - person.outline)
        head = np.concatenate([face, person.shell + moved])
        pivot = rotation @ PIVOT + translation
        placed = np.concatenate(
            [head @ rotation.T + translation, place_body(rotation, pivot, np.array(script.shots[shot].place))]
        )
        pixels = projection.cameras[shot].project(placed)
        coverage = cover(pixels, -placed[:, 2], self._triangles, (HEIGHT, WIDTH), self._layers)
        sheet = person.creases.draw(person.sheet, projection.brows[number])
        drawn = paint(coverage, sheet, self._texels, self._shade(placed, person))
        part = picture[coverage.part]
        weight = _soft(coverage.ids)
        part[:] = cv2.blendLinear(drawn, np.ascontiguousarray(part), weight, 1 - weight)
        visible = projection.facing[number] & ~hidden(coverage, -placed[:, 2], POINTS)
        return Drawing(coverage, visible, len(self.mesh.triangles), len(self._layout.triangles))

    @cached_property
    def _corners(self) -> NDArray[np.float32]:
        """(vertices, triangles), 1 where a triangle has the vertex."""
        corners = np.zeros((int(self._triangles.max()) + 1, len(self._triangles)), np.float32)
        for corner in range(3):
            corners[self._triangles[:, corner], np.arange(len(self._triangles))] = 1
        return corners

    def _shade(self, placed: Array, person: Person) -> Array:
        """(triangles, 3), brightness at the corners: even light, and light from one side."""
        a, b, c = (placed[self._triangles[:, corner]].astype(np.float32) for corner in range(3))
        normals = self._corners @ np.cross(b - a, c - a)
        normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-9)
        lit = np.maximum(normals @ person.light.astype(np.float32), 0)
        shade = (1 - person.directed) + 1.2 * person.directed * lit
        corners: Array = np.asarray(shade, np.float64)[self._triangles]
        return corners


@dataclass(frozen=True)
class Drawing:
    """What was drawn.

    Attributes:
        coverage: of face, shell and body.
        visible: (468,), which vertices of the face are seen.
        face, head: how many of the first triangles are of the face, and of the head.
    """

    coverage: Coverage
    visible: NDArray[np.bool_]
    face: int
    head: int

    @property
    def mask(self) -> Image:
        """(480, 640), 255 where the head is."""
        mask = np.zeros((HEIGHT, WIDTH), np.uint8)
        ids = self.coverage.ids
        mask[self.coverage.part] = 255 * ((ids > 0) & (ids <= self.head)).astype(np.uint8)
        return mask

    def covered(self, over: Image) -> float:
        """What part of the face's pixels is hidden by more than half."""
        if not over.any():
            return 0.0
        ids = self.coverage.ids
        face = (ids > 0) & (ids <= self.face)
        return float((over[self.coverage.part][face] > 127).mean()) if face.any() else 0.0


def _soft(ids: NDArray[np.int32]) -> NDArray[np.float32]:
    """(h, w), 1 where something is drawn, a little less on its border."""
    mask = (ids > 0).astype(np.uint8)
    if not mask.size:
        return mask.astype(np.float32)
    blurred = cv2.boxFilter(mask * 255, -1, (3, 3))
    return blurred.astype(np.float32) * mask / np.float32(255)


def _under(over: Image, points: Array) -> NDArray[np.bool_]:
    """(468,), which points lie under something."""
    columns, rows = np.floor(points).astype(np.intp).T
    inside = (columns >= 0) & (rows >= 0) & (columns < WIDTH) & (rows < HEIGHT)
    under = np.zeros(len(points), bool)
    under[inside] = over[rows[inside], columns[inside]] > 127
    return under
