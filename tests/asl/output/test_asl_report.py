"""The report page holds every frame, loads nothing, lets no text become markup, and stays small."""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import replace
from html import unescape
from pathlib import Path
from urllib.parse import unquote

import cv2
import numpy as np
import pytest
from asl_report import analysis_of, curves_of, data_of, page, pictures_of, times_of

from fyc.asl.elan.document import Annotation, Tier
from fyc.asl.output.csv_table import columns_of
from fyc.asl.output.report import MOST_BYTES, Origin, write_report
from fyc.asl.output.thumbnails import Thumbnails
from fyc.asl.recognition.recognizer import About
from fyc.asl.video.reader import Frame
from fyc.errors import ElanError

NASTY = "<img src=x onerror=alert(1)>\"'&</script><!--.mp4"


def test_every_frame_is_in_the_page(tmp_path: Path) -> None:
    analysis = page(tmp_path / "a.html", frames=200)
    data = data_of(tmp_path / "a.html")
    assert np.allclose(times_of(data), analysis.measures.time_s, atol=1e-4)
    columns, curves = columns_of(analysis), curves_of(data)
    wanted = {"brow_left", "brow_right", "yaw_deg", "pitch_deg", "roll_deg", "eye_left", "eye_right", "mouth"}
    assert set(curves) == wanted | {"confidence"}
    for name, values in curves.items():
        assert np.allclose(values, columns[name], atol=0.006 if name.endswith("_deg") else 0.0006, equal_nan=True)
    assert np.isnan(curves["yaw_deg"][60:70]).all()
    assert np.isfinite(curves["yaw_deg"][70:]).all()


def test_pictures_are_of_the_frames_they_name(tmp_path: Path) -> None:
    page(tmp_path / "a.html", frames=200)
    pictures = data_of(tmp_path / "a.html")["pictures"]
    assert pictures["frames"] == list(range(0, 200, 5))
    brightness = []
    for jpeg in pictures["jpegs"]:
        image = cv2.imdecode(np.frombuffer(base64.b64decode(jpeg), np.uint8), cv2.IMREAD_COLOR)
        assert image is not None
        assert image.shape == (120, 160, 3)
        brightness.append(image.mean())
    assert (np.diff(brightness) > 0).all()


def test_no_text_becomes_markup(tmp_path: Path) -> None:
    tiers = (Tier("<b>tier</b>", (Annotation(0, 400, "</script><script>alert(1)</script>"),)),)
    analysis = replace(analysis_of(tmp_path / "x" / NASTY, 50), problem="<i>broken</i>", tracker=("<u>",) * 50)
    about = About("<s>data</s>", True, 3)
    write_report(analysis, tiers, pictures_of(50), Origin("<a>", about, None), tmp_path / "a.html")
    text = (tmp_path / "a.html").read_text(encoding="utf-8")
    for markup in ("<img src=x", "<b>tier", "<script>alert", "<i>broken", "<u>", "<s>data", "<a>"):
        assert markup not in text
    assert text.count("</script>") == 2
    title = re.search("<h1>(.*?)</h1>", text)
    assert title is not None
    assert unescape(title[1]) == Path(NASTY).name
    assert data_of(tmp_path / "a.html")["tiers"][0]["spans"] == [[0, 400, "</script><script>alert(1)</script>"]]


def test_a_page_runs_its_own_script_only_and_loads_nothing(tmp_path: Path) -> None:
    page(tmp_path / "a.html")
    text = (tmp_path / "a.html").read_text(encoding="utf-8")
    policy = re.search('http-equiv="Content-Security-Policy" content="(.*?)"', text)
    assert policy is not None
    rules = dict(rule.strip().split(" ", 1) for rule in policy[1].split(";"))
    assert rules["default-src"] == "'none'"
    for rule, element in (("script-src", "script"), ("style-src", "style")):
        content = re.findall(f"<{element}>(.*?)</{element}>", text, re.DOTALL)
        assert len(content) == 1
        digest = base64.b64encode(hashlib.sha256(content[0].encode()).digest()).decode()
        assert rules[rule] == f"'sha256-{digest}'"
    assert "http:" not in text
    assert "https:" not in text
    assert "eval(" not in text
    assert not re.search(r'<(?!meta)[^>]+ (src|style|on\w+)="', text)


def test_videos_are_addressed_beside_the_page(tmp_path: Path) -> None:
    analysis = analysis_of(tmp_path / "corpus" / "a b#%1 Ł?.mp4", 50)
    (tmp_path / "out").mkdir()
    origin = Origin("", None, tmp_path / "out" / "a b.overlay.mp4")
    write_report(analysis, (), pictures_of(50), origin, tmp_path / "out" / "a.html")
    first, second = (source["url"] for source in data_of(tmp_path / "out" / "a.html")["sources"])
    assert first == "a%20b.overlay.mp4"
    assert not set(second) & set(" #?:")
    assert unquote(second) == "../corpus/a b#%1 Ł?.mp4"


@pytest.mark.parametrize("frames", [3000, 100_000])
def test_a_long_video_gives_a_page_that_is_not_too_long(frames: int, tmp_path: Path) -> None:
    page(tmp_path / "a.html", frames=frames)
    size = (tmp_path / "a.html").stat().st_size
    assert size < MOST_BYTES
    data = data_of(tmp_path / "a.html")
    assert len(times_of(data)) == frames
    pictures = data["pictures"]["frames"]
    assert len(pictures) > 100
    assert len(set(np.diff(pictures))) == 1
    assert pictures[-1] > frames - 2 * (pictures[1] - pictures[0])


def test_pictures_take_no_more_memory_however_long_the_video() -> None:
    rng = np.random.default_rng(0)
    pictures = Thumbnails(most_bytes=50_000)
    for index in range(2000):
        pictures.add(Frame(index, index / 5, rng.integers(0, 255, (90, 120, 3), dtype=np.uint8)))
        assert sum(len(picture.jpeg) for picture in pictures.within(1 << 30)) <= 50_000
    kept = [picture.frame for picture in pictures.within(1 << 30)]
    assert kept[0] == 0
    assert len(set(np.diff(kept))) == 1


def test_frames_without_a_picture_are_passed_over() -> None:
    pictures = Thumbnails()
    for index in range(20):
        image = None if index < 7 else np.zeros((60, 80, 3), np.uint8)
        pictures.add(Frame(index, index / 25, image))
    assert [picture.frame for picture in pictures.within(1 << 30)] == [7, 10, 15]


def test_events_are_a_table_in_html(tmp_path: Path) -> None:
    page(tmp_path / "a.html")
    text = (tmp_path / "a.html").read_text(encoding="utf-8")
    rows = re.findall(r'data-ms="(\d+)">([\d:.]+)</button></td><td>([\d:.]+)</td><td>([\d.]+) s</td>', text)
    assert rows == [
        ("400", "0:00.400", "0:02.000", "1.600"), ("400", "0:00.400", "0:01.200", "0.800"),
        ("2400", "0:02.400", "0:02.800", "0.400"), ("3200", "0:03.200", "0:04.000", "0.800"),
    ]  # fmt: skip


def test_a_page_says_where_markers_come_from(tmp_path: Path) -> None:
    page(tmp_path / "a.html")
    assert "markers were not looked for" in (tmp_path / "a.html").read_text(encoding="utf-8")
    origin = Origin("", About("scripted sentences", True, 480), None, ("brow-raise", "puff"))
    write_report(analysis_of(tmp_path / "v.mp4", 50), (), pictures_of(50), origin, tmp_path / "b.html")
    text = (tmp_path / "b.html").read_text(encoding="utf-8")
    assert "scripted sentences (480 videos)" in text
    assert "synthetic" in text
    assert "brow-raise, puff" in text


def test_a_page_is_whole_or_not_there(tmp_path: Path) -> None:
    (tmp_path / "a.html").mkdir()
    with pytest.raises(ElanError) as raised:
        page(tmp_path / "a.html", frames=100)
    assert raised.value.code == "FYC-E05"
    assert list(tmp_path.iterdir()) == [tmp_path / "a.html"]


def test_a_video_in_which_nothing_is_ever_seen(tmp_path: Path) -> None:
    analysis = analysis_of(tmp_path / "v.mp4", 30, slice(0, 30))
    write_report(analysis, (), Thumbnails(), Origin("", None, None), tmp_path / "a.html")
    data = data_of(tmp_path / "a.html")
    assert data["pictures"] == {"frames": [], "jpegs": []}
    assert all(np.isnan(values).all() for name, values in curves_of(data).items() if name != "confidence")
