"""Measures of scripted sentences without landmarks: the curves themselves, with noise."""

from __future__ import annotations

import numpy as np

from fyc.asl.measures import Measures
from fyc.asl.segments import Segment
from fyc.asl.synthetic.grammar import sign
from fyc.asl.synthetic.motion import Timeline, draw_style
from fyc.asl.synthetic.script import COLUMN, MARKERS
from fyc.asl.synthetic.seeds import generator


def measures_of(timeline: Timeline, seed: int = 0, noise: float = 0.02) -> Measures:
    """What a timeline shows, with noise of so many degrees, centimetres and open eyes."""
    curves, _ = timeline.finish(blur=1.0)
    columns = [curves[:, COLUMN[name]] for name in ("yaw", "pitch", "roll", "x", "y", "z")]
    brows = curves[:, :4]
    table = np.column_stack([*columns, brows, 1 - curves[:, COLUMN["lid_left"] : COLUMN["lid_right"] + 1]])
    table = np.column_stack([table, curves[:, COLUMN["mouth"]]])
    table += noise * generator("test noise", seed).standard_normal(table.shape)
    times = np.arange(len(curves)) / timeline.fps
    return Measures.from_table(times, np.ones(len(curves)), table)


def still(seconds: float, fps: float = 30.0) -> Timeline:
    """Nothing happens."""
    return Timeline(seconds, fps)


def sentence(phrases: tuple[str, ...], seed: int, fps: float = 30.0) -> tuple[Measures, list[Segment]]:
    """A scripted sentence: its measures, and its gold events and markers."""
    timeline = sign(phrases, draw_style("fit", seed % 24), generator("test sentence", seed), fps)
    _, parts = timeline.finish(blur=1.0)
    gold = [Segment(part.start / fps, part.end / fps, part.label) for part in parts]
    return measures_of(timeline, seed), gold


def markers_of(segments: list[Segment]) -> list[Segment]:
    return [segment for segment in segments if segment.label in MARKERS]
