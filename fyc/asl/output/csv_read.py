"""Reads the tables of measures that `fyc.asl.output.csv_table.write_csv` wrote."""

from __future__ import annotations

import csv
import math
import re
from itertools import pairwise
from pathlib import Path

import numpy as np

from fyc.asl.measures import Measures
from fyc.errors import ElanError

_SINGLE = ("occluded", "yaw_deg", "pitch_deg", "roll_deg", "x_cm", "y_cm", "z_cm", "mouth")
_BROWS = ("brow_inner_left", "brow_outer_left", "brow_inner_right", "brow_outer_right")
_EYES = ("eye_left", "eye_right")
#: Never empty.
_ALWAYS = ("frame", "time_s", "confidence")
_NEEDED = (*_ALWAYS, *_SINGLE, *_BROWS, *_EYES)


def is_table(path: Path) -> bool:
    """Whether a file begins as a table of measures, be it damaged or not; a CSV file may hold anything."""
    try:
        with path.open("rb") as stream:
            head = stream.readline(4096).decode("utf-8", "replace")
    except OSError:
        return False
    return {"time_s", "yaw_deg"} <= set(re.findall(r"\w+", head))


def read_csv(path: Path) -> Measures:
    """Read the measures of a video of T frames, exactly as they are written; other columns are passed over.

    Raises:
        ElanError: FYC-E08 if the file is not such a table, or somebody changed or damaged it.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            rows = list(csv.reader(stream))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise _broken(path, str(error)) from error
    head = rows[0] if rows else []
    missing = [name for name in _NEEDED if head.count(name) != 1]
    if missing:
        raise _broken(path, f"line 1 must name these columns once, between commas: {', '.join(missing)}")
    if len(rows) == 1:
        raise _broken(path, "it has no frames")
    places = {name: head.index(name) for name in _NEEDED}
    cells = np.array([_numbers(path, line, row, len(head), places) for line, row in enumerate(rows[1:], 2)])
    column = dict(zip(_NEEDED, cells.T.copy(), strict=True))
    for line, (before, after) in enumerate(pairwise(column["time_s"]), 3):
        if after <= before:
            raise _broken(path, f"line {line}: time_s does not rise")
    occluded, yaw, pitch, roll, x, y, z, mouth = (column[name] for name in _SINGLE)
    brows, eyes = (np.column_stack([column[name] for name in names]) for names in (_BROWS, _EYES))
    return Measures(column["time_s"], column["confidence"], occluded, yaw, pitch, roll, x, y, z, brows, eyes, mouth)


def _numbers(path: Path, line: int, row: list[str], width: int, places: dict[str, int]) -> list[float]:
    """The cells of a frame that are needed; NaN where one is empty."""
    if len(row) != width:
        raise _broken(path, f"line {line} has {len(row)} cells, line 1 has {width}")
    numbers = [_number(path, line, name, row[place]) for name, place in places.items()]
    frame, _, confidence, *_ = numbers
    if frame != line - 2:
        raise _broken(path, f"line {line} must be frame {line - 2}, and is {row[places['frame']]}")
    if not 0 <= confidence <= 1:
        raise _broken(path, f"line {line}: a confidence of {row[places['confidence']]}")
    return numbers


def _number(path: Path, line: int, name: str, text: str) -> float:
    if not text and name not in _ALWAYS:
        return math.nan
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise _broken(path, f"line {line}: {name} is {text[:40]!r}, which is no number")
    return number


def _broken(path: Path, why: str) -> ElanError:
    return ElanError(
        "FYC-E08", "this is no table of measures, or a damaged one", where=str(path), why=why,
        next="remove it or write it again with `fyc asl run`; spreadsheet programs change tables when they save them",
    )  # fmt: skip
