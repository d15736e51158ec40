"""The overlay video: landmarks, mesh, contours, the axes of the head, and a bar of what is active, on every frame."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open

from fyc.asl.analysis import Analysis
from fyc.asl.face.camera import Camera
from fyc.asl.face.contours import contour_edges, mesh_edges
from fyc.asl.face.detector import Image
from fyc.asl.face.mesh import FaceMesh, Indices
from fyc.asl.segments import Segment
from fyc.asl.video.reader import open_video
from fyc.asl.video.writer import write_video

#: Colours (RGB) of labels, by turns, after Okabe and Ito, as on the report page.
_COLOURS = (
    (230, 159, 0),
    (86, 180, 233),
    (0, 168, 120),
    (240, 228, 66),
    (0, 114, 178),
    (224, 112, 26),
    (213, 141, 181),
)
#: Of the track by confidence: low, high.
_LOW, _HIGH = np.array([235, 95, 30]), np.array([90, 225, 235])
#: How much of the mesh is seen, 0 to 1, and binary digits of parts of a pixel for its lines.
_MESH, _SHIFT = 0.4, 4
#: Length of the axes of the head, in cm; x red, y green, z blue.
_AXIS = 6.0
#: Where they begin: so far before the origin of the face, in cm.
_NOSE = 5.0
#: Letters on a colour are white up to this brightness, else black.
_DARK = 100
_BRIGHTNESS = np.array([0.299, 0.587, 0.114])
_FONT = cv2.FONT_HERSHEY_SIMPLEX


def write_overlay(analysis: Analysis, track: Path, segments: Sequence[Segment], mesh: FaceMesh, path: Path) -> None:
    """Write the overlay of a video.

    Args:
        analysis: of the video.
        track: the file that `fyc.asl.tracking.track_file.write_track` wrote of it.
        segments: events and markers, which are shown while they are active.
        mesh: whose vertices the landmarks are.
        path: an .mp4 file; it is written whole or not at all.

    Raises:
        VideoError: if the video cannot be read again, or the overlay cannot be written.
        ResourceError: FYC-S01 if the disk is full.
    """
    info = analysis.info
    camera = Camera.for_picture(info.width, info.height)
    edges = mesh_edges(mesh), contour_edges()
    labels = sorted({segment.label for segment in segments})
    colours = {label: _COLOURS[number % len(_COLOURS)] for number, label in enumerate(labels)}
    with (
        safe_open(track, framework="np") as tensors,
        open_video(info.path) as video,
        write_video(path, (info.width, info.height), info.rate or 25.0) as writer,
    ):
        slices = {name: tensors.get_slice(name) for name in ("landmarks", "rotation", "translation", "occluded")}
        for frame in video:
            if frame.index >= len(analysis.measures):
                break
            shown = np.zeros((info.height, info.width, 3), np.uint8) if frame.image is None else frame.image.copy()
            values = {name: part[frame.index] for name, part in slices.items()}
            _draw_face(shown, values, edges, camera, float(analysis.measures.confidence[frame.index]))
            active = [s.label for s in segments if s.start_s <= frame.time_s < s.end_s]
            _draw_bar(shown, [(label, colours[label]) for label in dict.fromkeys(active)], analysis, frame.index)
            writer.add(shown, frame.time_s)


def _draw_face(
    image: Image,
    values: dict[str, NDArray[np.floating]],
    edges: tuple[Indices, Indices],
    camera: Camera,
    confidence: float,
) -> None:
    points, seen = values["landmarks"], values["occluded"] == 0
    if not np.isfinite(points).all():
        return
    colour = tuple(int(part) for part in _LOW + (_HIGH - _LOW) * confidence)
    mesh, contours = (points[pairs[seen[pairs].all(axis=1)]] for pairs in edges)
    _draw_mesh(image, mesh, colour)
    size = float(np.ptp(points[:, 0]))
    _draw_lines(image, contours, colour, max(1, round(size / 300)))
    radius = max(1, round(size / 400))
    for x, y in points[seen]:
        cv2.circle(image, (round(float(x)), round(float(y))), radius, colour, -1, cv2.LINE_AA)
    if np.isfinite(values["rotation"]).all():
        ends = np.vstack([np.zeros(3), np.eye(3) * _AXIS])
        ends[:, 2] += _NOSE
        origin, *tips = camera.project(ends @ values["rotation"].T + values["translation"]).round().astype(int)
        for tip, axis in zip(tips, ((230, 60, 60), (60, 200, 60), (70, 110, 255)), strict=True):
            cv2.line(image, tuple(map(int, origin)), tuple(map(int, tip)), axis, 2, cv2.LINE_AA)


def _draw_mesh(image: Image, lines: NDArray[np.floating], colour: tuple[int, ...]) -> None:
    """Thin lines (E, 2, 2) that let the face be seen through them."""
    if not len(lines):
        return
    height, width = image.shape[:2]
    left, top = np.clip(lines.min(axis=(0, 1)).astype(int) - 2, 0, (width, height))
    right, bottom = np.clip(lines.max(axis=(0, 1)).astype(int) + 3, 0, (width, height))
    face = image[top:bottom, left:right]
    if face.size:
        drawn = face.copy()
        _draw_lines(drawn, lines - (left, top), colour, 1)
        cv2.addWeighted(drawn, _MESH, face, 1 - _MESH, 0, dst=face)


def _draw_lines(image: Image, lines: NDArray[np.floating], colour: tuple[int, ...], thickness: int) -> None:
    ends = np.round(lines * (1 << _SHIFT)).astype(np.int32)
    cv2.polylines(image, list(ends), False, colour, thickness, cv2.LINE_AA, _SHIFT)


def _draw_bar(image: Image, active: Sequence[tuple[str, tuple[int, int, int]]], analysis: Analysis, frame: int) -> None:
    """What is active, in colours, above a line that says where we are and who tracks."""
    height = len(image)
    scale = max(height / 900, 0.35)
    line = round(46 * scale)
    image[height - 2 * line :] = image[height - 2 * line :] // 4
    at = line // 3
    for label, colour in active:
        (across, _), _ = cv2.getTextSize(label, _FONT, scale, 1)
        cv2.rectangle(image, (at, height - 2 * line + 2), (at + across + line // 2, height - line - 2), colour, -1)
        place = (at + line // 4, height - line - line // 3)
        ink = (255, 255, 255) if _BRIGHTNESS @ colour < _DARK else (0, 0, 0)
        cv2.putText(image, label, place, _FONT, scale, ink, 1, cv2.LINE_AA)
        at += across + line
    who = analysis.tracker[frame] or "lost"
    text = f"{analysis.measures.time_s[frame]:.2f} s  {who}  {analysis.measures.confidence[frame]:.2f}"
    cv2.putText(image, text, (line // 3, height - line // 3), _FONT, scale, (230, 230, 230), 1, cv2.LINE_AA)
