"""The two commands of somebody who has annotated videos, on a real clip: train, then run with what was learned."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from itertools import islice
from pathlib import Path

import av
import cv2
import pympi
import pytest
from typer.testing import CliRunner, Result

from fyc.asl.elan.read import read_eaf
from fyc.asl.face.detector import Image
from fyc.asl.learning.model import REPORT, TABLES, open_model
from fyc.asl.output.csv_read import read_csv
from fyc.asl.video.writer import write_video
from fyc.cli.main import app

pytestmark = [pytest.mark.assets, pytest.mark.slow]

#: As ELAN 5 writes it; the video has been moved since.
EAF = """<?xml version="1.0" encoding="UTF-8"?>
<ANNOTATION_DOCUMENT AUTHOR="me" DATE="2018-03-01T12:00:00+01:00" FORMAT="2.8" VERSION="2.8"
  xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:noNamespaceSchemaLocation="http://www.mpi.nl/tools/elan/EAFv2.8.xsd">
  <HEADER MEDIA_FILE="" TIME_UNITS="milliseconds">
    <MEDIA_DESCRIPTOR MEDIA_URL="file:///D:/films/{name}.mp4" MIME_TYPE="video/mp4"/>
  </HEADER>
  <TIME_ORDER>
    <TIME_SLOT TIME_SLOT_ID="ts1" TIME_VALUE="800"/><TIME_SLOT TIME_SLOT_ID="ts2" TIME_VALUE="1800"/>
  </TIME_ORDER>
  <TIER LINGUISTIC_TYPE_REF="default-lt" TIER_ID="NMM" PARTICIPANT="{name}">
    <ANNOTATION><ALIGNABLE_ANNOTATION ANNOTATION_ID="a1" TIME_SLOT_REF1="ts1" TIME_SLOT_REF2="ts2">
      <ANNOTATION_VALUE>y/n</ANNOTATION_VALUE></ALIGNABLE_ANNOTATION></ANNOTATION>
  </TIER>
  <LINGUISTIC_TYPE GRAPHIC_REFERENCES="false" LINGUISTIC_TYPE_ID="default-lt" TIME_ALIGNABLE="true"/>
</ANNOTATION_DOCUMENT>
"""


def tilted(frame: Image) -> Image:
    """The picture turned by fifteen degrees: a marker that is there to be found."""
    turn = cv2.getRotationMatrix2D((180, 150), 15, 1)
    turned: Image = cv2.warpAffine(frame, turn, (360, 288), borderMode=cv2.BORDER_REPLICATE)  # type: ignore[assignment]
    return turned


def fyc(*words: object) -> Result:
    done = CliRunner().invoke(app, ["asl", *map(str, words)], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done


def test_from_annotated_videos_to_markers_in_a_document(talking: Path, landmarker_file: Path, tmp_path: Path) -> None:
    corpus, model, out = tmp_path / "corpus ñ", tmp_path / "model", tmp_path / "out"
    corpus.mkdir()
    with av.open(str(talking)) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in islice(container.decode(video=0), 120)]
    for name, part in (("one", frames[:60]), ("two", frames[60:])):
        with write_video(corpus / f"{name}.mp4", (360, 288), 25.0) as writer:
            for number, frame in enumerate(part):
                writer.add(tilted(frame) if 20 <= number < 45 else frame)
        (corpus / f"{name}.eaf").write_text(EAF.format(name=name), encoding="utf-8")

    done = fyc("train", corpus / "one.eaf", corpus / "two.eaf", "-o", model, "--markers", "NMM")
    assert "measuring two.mp4 (2 of 2)" in done.stderr
    assert json.loads((model / REPORT).read_text(encoding="utf-8"))["judged"]["parts"] == 2
    tables = sorted((model / TABLES).iterdir())
    assert [path.name[:4] for path in tables] == ["one-", "two-"]
    assert len(read_csv(tables[0])) == 60

    before = (model / "recognizer.safetensors").read_bytes()
    assert "measuring" not in fyc("train", corpus, "-o", model, "--markers", "NMM").stderr
    assert (model / "recognizer.safetensors").read_bytes() == before

    summary = json.loads(fyc("run", corpus / "one.mp4", "-o", out, "--model", model, "--json").stdout)
    assert summary["model"] == {"data": "corpus ñ", "synthetic": False}
    read = pympi.Elan.Eaf(str(out / "one.eaf"))
    spans = [(round(1000 * m["start_s"]), round(1000 * m["end_s"]), m["label"]) for m in summary["markers"]]
    assert read.get_annotation_data_for_tier("NMM") == spans
    words = next(one for one in read_eaf(out / "one.eaf").vocabularies if one.name == "NMM")
    assert words.labels == (("y/n", "learned from corpus ñ"),)
    assert "y_n" in (out / "one.csv").read_text(encoding="utf-8").splitlines()[0].split(",")
    found = open_model(model).recognise(read_csv(out / "one.csv")).markers
    assert [(marker.label, marker.start_s) for marker in found] == [
        (marker["label"], pytest.approx(marker["start_s"], abs=0.05)) for marker in summary["markers"]
    ]
    assert [label for _, _, label in spans] == ["y/n"]
    assert "y/n" in (out / "one.vtt").read_text(encoding="utf-8")

    table = fyc("eval", "--pred", out, "--truth", corpus, "--tier", "NMM", "--json")
    assert json.loads(table.stdout)["micro"]["matched"] == 1
    again = fyc("run", corpus / "one.mp4", "-o", out, "--model", model)
    assert "done before" in again.stdout
    plain = fyc("run", corpus / "one.mp4", "-o", tmp_path / "plain", "--no-overlay")
    assert "--model" in plain.stdout.splitlines()[-1]


def test_a_changed_video_is_measured_again(talking: Path, landmarker_file: Path, tmp_path: Path) -> None:
    with av.open(str(talking)) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in islice(container.decode(video=0), 36)]
    (tmp_path / "one.eaf").write_text(EAF.format(name="one"), encoding="utf-8")
    for count in (34, 36):
        with write_video(tmp_path / "one.mp4", (360, 288), 25.0) as writer:
            for frame in frames[:count]:
                writer.add(frame)
        fyc("train", tmp_path, "-o", tmp_path, "--markers", "NMM")
    assert sorted(len(read_csv(path)) for path in (tmp_path / TABLES).iterdir()) == [34, 36]


def test_killed_while_it_measures_it_goes_on(talking: Path, landmarker_file: Path, tmp_path: Path) -> None:
    """kill -9 in the second of two videos: the table of the first is kept, and nothing hidden stays."""
    with av.open(str(talking)) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in islice(container.decode(video=0), 34)]
    for name in ("one", "two"):
        (tmp_path / f"{name}.eaf").write_text(EAF.format(name=name), encoding="utf-8")
        with write_video(tmp_path / f"{name}.mp4", (360, 288), 25.0) as writer:
            for frame in frames[: 34 if name == "one" else 33]:
                writer.add(frame)
    model = tmp_path / "model"
    words = ["train", str(tmp_path), "-o", str(model), "--markers", "NMM"]
    command = [sys.executable, "-m", "fyc", "asl", *words]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert process.stderr is not None
    assert any("measuring two.mp4" in line for line in process.stderr)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    (kept,) = (model / TABLES).glob("*.csv")
    left = [path.name for path in (model / TABLES).iterdir() if path != kept]
    assert left
    assert all(name.startswith(".") for name in left)
    written = kept.stat().st_mtime_ns

    fyc("train", tmp_path / "one.eaf", "-o", model, "--markers", "NMM")
    assert list((model / TABLES).iterdir()) == [kept]
    done = fyc(*words)
    assert "measuring one.mp4" not in done.stderr
    assert "measuring two.mp4" in done.stderr
    assert kept.stat().st_mtime_ns == written
    assert len(list((model / TABLES).iterdir())) == 2
    assert {path.name for path in model.iterdir()} == {"recognizer.safetensors", REPORT, TABLES}
