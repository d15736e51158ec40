"""Tables of rendered clips are read together with the scripts of the clips."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from asl_annotated import analysis_of

from fyc.asl.bench.sentences import parted, read_clips
from fyc.asl.measures import MEASURES, Measures
from fyc.asl.output.csv_table import write_csv
from fyc.asl.run import EVENT_LABELS
from fyc.asl.synthetic import CONTRASTS, CORPORA
from fyc.asl.synthetic.script import Script

CHECK = CORPORA["check"]


def table(script: Script, folder: Path) -> None:
    """A table as long as the clip, in which nothing moves and the third frame is doubtful."""
    folder.mkdir(exist_ok=True)
    times, confidence = np.arange(script.frames) / script.fps, np.full(script.frames, 0.9)
    confidence[2] = 0.2
    measures = Measures.from_table(times, confidence, np.zeros((script.frames, len(MEASURES))))
    write_csv(analysis_of(measures, folder / f"{script.name}.mp4"), [], EVENT_LABELS, folder / f"{script.name}.csv")


@pytest.fixture
def tables(tmp_path: Path) -> Path:
    scripts = [CHECK.sentence(15), *(CHECK.pair(contrast, 2, 1)[side] for contrast in CONTRASTS for side in (0, 1))]
    for script in scripts:
        table(script, tmp_path / f"signer {script.signer.head}")
    (tmp_path / "notes.csv").write_text("frame,what\n0,nothing\n", encoding="utf-8")
    return tmp_path


def test_every_table_has_its_script(tables: Path) -> None:
    sentences, sides = parted(read_clips(CHECK, tables))
    assert [clip.script.name for clip in sentences] == ["check-15"]
    assert sentences[0].signer == 1
    assert len(sides) == 2 * len(CONTRASTS)
    for clip in sides:
        contrast = next(one for one in CONTRASTS if one.name == clip.contrast)
        assert clip.script.name == f"check-{contrast.name}-2-1-{contrast.markers[clip.side]}"
        assert clip.signer == 2


def test_doubtful_frames_are_unknown_and_truth_is_that_of_the_script(tables: Path) -> None:
    (clip,), _ = parted(read_clips(CHECK, tables))
    assert list(np.flatnonzero(np.isnan(clip.measures.yaw))) == [2]
    markers = {part.label for part in clip.script.segments if part.tier == "marker"}
    assert {part.label for part in clip.example.markers} == markers
    assert clip.example.signer == "signer 1"


def test_other_corpora_are_left_alone(tables: Path) -> None:
    assert read_clips(CORPORA["fit"], tables) == []
