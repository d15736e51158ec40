"""Pages to test: an analysis that is made up, and what a page of it holds."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fyc.asl.analysis import Analysis
from fyc.asl.elan.document import Annotation, Tier
from fyc.asl.measures import MEASURES, Measures
from fyc.asl.output.report import GAP, TICKS, Origin, write_report
from fyc.asl.output.thumbnails import Thumbnails
from fyc.asl.video.reader import Frame, VideoInfo

RATE = 25.0
TIERS = (
    Tier("nonmanual markers", (Annotation(400, 2000, "wh-question"),)),
    Tier("brows", (Annotation(400, 1200, "brow-raise"), Annotation(3200, 4000, "brow-lower"))),
    Tier("eyes", ()),
    Tier("track", (Annotation(2400, 2800, "lost"),)),
)


def analysis_of(video: Path, frames: int, lost: slice = slice(60, 70)) -> Analysis:
    """Waves, with frames in which the face is lost."""
    time_s = np.arange(frames) / RATE
    phases = time_s[:, None] * np.linspace(0.5, 3, len(MEASURES))
    table = np.sin(phases) * np.array([20, 10, 5, 2, 2, 2, 0.3, 0.3, 0.3, 0.3, 0.5, 0.5, 0.4])
    seen = np.ones(frames, bool)
    seen[lost] = False
    table[~seen] = np.nan
    info = VideoInfo(video, 160, 120, 0, False, RATE, frames / RATE, frames, "h264", False, 0.0, 1.0)
    measures = Measures.from_table(time_s, np.where(seen, 0.9, 0.0), table, np.where(seen, 0.1, np.nan))
    tracker = tuple("network" if there else "" for there in seen)
    return Analysis(info, measures, tracker, ("",) * frames, 1, "")


def pictures_of(frames: int, every: int = 1) -> Thumbnails:
    """Pictures of a video whose brightness tells the frame."""
    pictures = Thumbnails()
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 90, (120, 160, 3))
    for index in range(0, frames, every):
        image = (np.roll(noise, index, axis=1) + 160 * index / frames).astype(np.uint8)
        pictures.add(Frame(index, index / RATE, image))
    return pictures


def page(path: Path, frames: int = 200, video: Path | None = None, tiers: Sequence[Tier] = TIERS) -> Analysis:
    """Write a page of a made-up video."""
    analysis = analysis_of(video or path.with_name("signing.mp4"), frames)
    write_report(analysis, tiers, pictures_of(frames, 1 if frames < 10_000 else 40), Origin("seed 0", None, None), path)
    return analysis


def data_of(path: Path) -> dict[str, Any]:
    """What is embedded in a page."""
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', path.read_text(encoding="utf-8"))
    assert found is not None
    data: dict[str, Any] = json.loads(found[1])
    return data


def times_of(data: dict[str, Any]) -> np.ndarray:
    """(T,), seconds."""
    return np.frombuffer(base64.b64decode(data["times"]), "<u4") / TICKS


def curves_of(data: dict[str, Any]) -> dict[str, np.ndarray]:
    """Curves by name, (T,), NaN in gaps."""
    curves = {}
    for panel in data["panels"]:
        for curve in panel["curves"]:
            raw = np.frombuffer(base64.b64decode(curve["values"]), "<i2")
            curves[curve["name"]] = np.where(raw == GAP, np.nan, raw * panel["step"])
    return curves
