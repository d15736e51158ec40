"""The table of measures as CSV: a row for every frame of the video, empty cells where something is not known."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from fyc.asl.analysis import Analysis
from fyc.asl.files import write_whole
from fyc.asl.segments import Segment

_ANGLES = ("yaw", "pitch", "roll")
#: Columns before those of events, with decimals; `face` is 1 where there is one.
_DECIMALS = {
    "frame": 0, "time_s": 4, "face": 0, "confidence": 3,
    "yaw_deg": 2, "pitch_deg": 2, "roll_deg": 2, "x_cm": 2, "y_cm": 2, "z_cm": 2,
    "brow_left": 3, "brow_right": 3,
    "brow_inner_left": 3, "brow_outer_left": 3, "brow_inner_right": 3, "brow_outer_right": 3,
    "eye_left": 3, "eye_right": 3, "mouth": 3, "occluded": 3,
}  # fmt: skip
COLUMNS = tuple(_DECIMALS)


def write_csv(
    analysis: Analysis,
    events: Sequence[Segment],
    labels: Sequence[str],
    path: Path,
    markers: Sequence[Segment] = (),
    marker_labels: Sequence[str] = (),
) -> None:
    """Write the table.

    Args:
        analysis: of a video.
        events: that were found in it.
        labels: of events, at least one; each gets a column that is 1 while one is active, else 0. ELAN takes empty
            cells at the end of a line for zeros, and these are never empty.
        path: the file; it is written whole or not at all.
        markers: that were found in it.
        marker_labels: of markers; each gets a column, too.

    Raises:
        ElanError: FYC-E05 if it cannot be written.
        ResourceError: FYC-S01 if the disk is full.
    """
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    times = analysis.measures.time_s
    active = _active(times, events, labels) + _active(times, markers, marker_labels)
    head = [*COLUMNS, "tracker", "reason"]
    writer.writerow(head + _column_names([*labels, *marker_labels], head))
    columns = columns_of(analysis)
    for frame in range(len(analysis.measures)):
        cells = [_cell(columns[name][frame], decimals) for name, decimals in _DECIMALS.items()]
        flags = ["1" if row[frame] else "0" for row in active]
        writer.writerow([*cells, analysis.tracker[frame], analysis.reason[frame], *flags])
    write_whole(path, text.getvalue().encode("utf-8"))


def columns_of(analysis: Analysis) -> dict[str, np.ndarray]:
    """The columns `COLUMNS`, each (T,); NaN where something is not known."""
    measures = analysis.measures
    inner_left, outer_left, inner_right, outer_right = measures.brows.T
    return {
        "frame": np.arange(len(measures)),
        "time_s": measures.time_s,
        "face": analysis.seen,
        "confidence": measures.confidence,
        **{f"{angle}_deg": getattr(measures, angle) for angle in _ANGLES},
        **{f"{axis}_cm": getattr(measures, axis) for axis in ("x", "y", "z")},
        "brow_left": (inner_left + outer_left) / 2,
        "brow_right": (inner_right + outer_right) / 2,
        "brow_inner_left": inner_left,
        "brow_outer_left": outer_left,
        "brow_inner_right": inner_right,
        "brow_outer_right": outer_right,
        "eye_left": measures.eyes[:, 0],
        "eye_right": measures.eyes[:, 1],
        "mouth": measures.mouth,
        "occluded": measures.occluded,
    }


def _cell(value: float, decimals: int) -> str:
    return "" if math.isnan(value) else f"{value:.{decimals}f}"


def _column_names(labels: Sequence[str], taken: Sequence[str]) -> list[str]:
    """Names that no program takes for anything but names: letters, digits, `_`; numbered if two become the same."""
    names: list[str] = []
    for label in labels:
        base = name = re.sub(r"\W+", "_", label).strip("_") or "label"
        number = 2
        while name in (*taken, *names):
            name, number = f"{base}_{number}", number + 1
        names.append(name)
    return names


def _active(times: np.ndarray, events: Sequence[Segment], labels: Sequence[str]) -> list[np.ndarray]:
    rows = []
    for label in labels:
        row = np.zeros(len(times), bool)
        for event in events:
            if event.label == label:
                row |= (times >= event.start_s) & (times < event.end_s)
        rows.append(row)
    return rows
