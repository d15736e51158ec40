"""The report page: one HTML file with curves, tiers and small pictures of a video, for any browser, offline."""

from __future__ import annotations

import base64
import hashlib
import json
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from importlib import resources
from importlib.metadata import version
from pathlib import Path
from string import Template
from urllib.parse import quote

import numpy as np

from fyc.asl.analysis import Analysis
from fyc.asl.elan.document import Tier
from fyc.asl.face.camera import Array
from fyc.asl.files import write_whole
from fyc.asl.output.annotation import TRACK_TIER, UNSURE
from fyc.asl.output.csv_table import columns_of
from fyc.asl.output.thumbnails import Thumbnail, Thumbnails
from fyc.asl.recognition.recognizer import About

#: Bytes of a page that pictures may fill up; they get `_LEAST_PICTURES` of a page that is longer without them.
MOST_BYTES, _LEAST_PICTURES = 5_000_000, 200_000
#: Stands for a value that is not known among 16-bit integers.
GAP = -32768
#: Tenths of milliseconds in a second: the unit of times.
TICKS = 10_000


@dataclass(frozen=True)
class _Panel:
    """Curves that share a scale: names of columns, with their labels; colours of the style sheet, one for each."""

    title: str
    unit: str
    least_span: tuple[float, float]
    step: float
    curves: Mapping[str, str]
    colours: tuple[str, ...] = ("left", "right", "third")


_PANELS = (
    _Panel("brows", "cm", (-0.4, 0.4), 0.001, {"brow_left": "left", "brow_right": "right"}),
    _Panel("head", "°", (-15, 15), 0.01, {"yaw_deg": "yaw", "pitch_deg": "pitch", "roll_deg": "roll"}),
    _Panel("eyes", "open", (0, 1.2), 0.001, {"eye_left": "left", "eye_right": "right"}),
    _Panel("mouth", "cm", (-0.2, 1), 0.001, {"mouth": "opening"}, ("mouth",)),
    _Panel("track", "", (0, 1), 0.001, {"confidence": "confidence"}, ("grey",)),
)


@dataclass(frozen=True)
class Origin:
    """Where the results on a page come from.

    Attributes:
        settings: of the analysis, in words.
        about: what the recognizer of the markers was trained on; None if none were looked for.
        overlay: the overlay video, in the folder of the page; None if there is none.
        learned: kinds of events that the recognizer finds; the others come from thresholds.
    """

    settings: str
    about: About | None
    overlay: Path | None
    learned: tuple[str, ...] = ()


def write_report(analysis: Analysis, tiers: Sequence[Tier], pictures: Thumbnails, origin: Origin, path: Path) -> None:
    """Write the page of a video.

    Args:
        analysis: of the video.
        tiers: what was found, as `fyc.asl.output.annotation.make_tiers` makes them.
        pictures: small pictures of the video.
        origin: where the results come from.
        path: an .html file; it is written whole or not at all.

    Raises:
        ElanError: FYC-E05 if it cannot be written.
        ResourceError: FYC-S01 if the disk is full.
    """
    templates = resources.files("fyc.asl.output") / "templates"
    html, style, script = ((templates / f"report.{kind}").read_text("utf-8") for kind in ("html", "css", "js"))
    data = _data(analysis, tiers, _sources(analysis.info.path, origin.overlay, path.parent))
    values = {
        "title": escape(analysis.info.path.name),
        "policy": _policy(style, script),
        "style": style,
        "script": script,
        "facts": _facts(analysis, origin.settings),
        "labels": escape(_about_labels(origin)),
        "rows": _rows(tiers),
    }
    rest = sum(map(len, values.values())) + len(json.dumps(data))
    budget = max(_LEAST_PICTURES, MOST_BYTES - len(html) - rest)
    data["pictures"] = _pictures(pictures.within(budget * 3 // 4 - 1000))  # base64 makes four bytes of three
    write_whole(path, Template(html).substitute(values, data=_script_data(data)).encode("utf-8", "replace"))


def _data(analysis: Analysis, tiers: Sequence[Tier], sources: list[dict[str, str]]) -> dict[str, object]:
    columns = columns_of(analysis)
    panels = [
        {
            "title": panel.title,
            "unit": panel.unit,
            "range": _range(panel, [columns[name] for name in panel.curves]),
            "step": panel.step,
            "curves": [
                {"name": name, "label": label, "colour": colour, "values": _packed(columns[name], panel.step)}
                for (name, label), colour in zip(panel.curves.items(), panel.colours, strict=False)
            ],
        }
        for panel in _PANELS
    ]
    return {
        "ticks": TICKS,
        "times": _base64(np.round(columns["time_s"] * TICKS).astype("<u4")),
        "panels": panels,
        "tiers": [
            {
                "name": tier.name,
                "track": tier.name == TRACK_TIER,
                "spans": [[note.start_ms, note.end_ms, note.value] for note in tier.annotations],
            }
            for tier in tiers
        ],
        "sources": sources,
    }


def _packed(values: Array, step: float) -> str:
    """Multiples of `step` as 16-bit integers, little-endian, in base64; `GAP` where nothing is known."""
    known = np.clip(np.round(np.nan_to_num(values) / step), GAP + 1, -GAP - 1)
    return _base64(np.where(np.isfinite(values), known, GAP).astype("<i2"))


def _base64(values: np.ndarray) -> str:
    return base64.b64encode(values.tobytes()).decode("ascii")


def _range(panel: _Panel, curves: list[Array]) -> list[float]:
    """What a panel shows: nearly all values, and no less than is usual; the few beyond are cut off."""
    values = np.concatenate(curves)
    values = values[np.isfinite(values)]
    low, high = np.percentile(values, (0.2, 99.8)) if len(values) else panel.least_span
    step = 0.1 if panel.least_span[1] < 5 else 5
    low = min(panel.least_span[0], float(np.floor(low / step)) * step)
    high = max(panel.least_span[1], float(np.ceil(high / step)) * step)
    return [round(low, 1), round(high, 1)]


def _sources(video: Path, overlay: Path | None, folder: Path) -> list[dict[str, str]]:
    """Videos that may be there when the page is opened, the best first, as addresses relative to it."""
    sources = [] if overlay is None else [{"url": quote(os.fsencode(overlay.name)), "what": "the overlay video"}]
    try:
        relative = Path(os.path.relpath(video.resolve(), folder.resolve())).as_posix()
    except ValueError:  # another drive
        return sources
    return [*sources, {"url": quote(os.fsencode(relative)), "what": "the video"}]


def _pictures(pictures: list[Thumbnail]) -> dict[str, object]:
    jpegs = [base64.b64encode(picture.jpeg).decode("ascii") for picture in pictures]
    return {"frames": [picture.frame for picture in pictures], "jpegs": jpegs}


def _script_data(data: Mapping[str, object]) -> str:
    """JSON that no text in it can end the element of."""
    text = json.dumps(data, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _policy(style: str, script: str) -> str:
    """What the page may load: itself, pictures within it, and a video beside it."""

    def digest(text: str) -> str:
        return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode('utf-8')).digest()).decode('ascii')}'"

    return (
        f"default-src 'none'; script-src {digest(script)}; style-src {digest(style)}; img-src data:; "
        "media-src 'self' file:; base-uri 'none'; form-action 'none'"
    )


def _facts(analysis: Analysis, settings: str) -> str:
    info, frames = analysis.info, len(analysis.measures)
    lost = int((~analysis.seen).sum())
    unsure = int((analysis.seen & analysis.measures.doubtful).sum())
    who = Counter(name for name in analysis.tracker if name)
    rate = "unknown" if info.rate is None else f"{info.rate:.3f}".rstrip("0").rstrip(".")
    facts = {
        "frames": f"{frames}, {info.width} x {info.height} pixels",
        "frames per second": f"{rate}, uneven" if info.variable_rate else rate,
        "duration": f"{analysis.measures.time_s[-1] + 1 / (info.rate or 25.0):.2f} s",
        "face lost": f"{lost / frames:.1%} of the frames",
        UNSURE: f"{unsure / frames:.1%} of the frames",
        "trackers": ", ".join(f"{name} {count / frames:.0%}" for name, count in who.most_common()),
        "settings": settings,
        "fyc": version("fyc"),
    }
    if analysis.problem:
        facts["the file is not sound"] = analysis.problem
    return "\n".join(
        f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in facts.items() if value
    )


def _about_labels(origin: Origin) -> str:
    """Where events and markers come from."""
    about = origin.about
    events = "Events (brow raises, shakes, nods, blinks and so on) come from thresholds, without training"
    if about is None:
        return f"{events}. Grammatical markers were not looked for: there was no model."
    if origin.learned:
        events += f", except what the model finds: {', '.join(origin.learned)}"
    text = f"{events}. Grammatical markers come from a model that was trained on {about.data} ({about.videos} videos)."
    if about.synthetic:
        text += " These are synthetic: it says nothing about a language."
    return text


def _rows(tiers: Sequence[Tier]) -> str:
    """Rows of the table of events, by time."""
    notes = [(note.start_ms, note.end_ms, tier.name, note.value) for tier in tiers for note in tier.annotations]
    return "\n".join(
        f'<tr><td><button type="button" data-ms="{start}">{_clock(start)}</button></td><td>{_clock(end)}</td>'
        f"<td>{(end - start) / 1000:.3f} s</td>"
        f"<td>{escape(name)}</td><td>{escape(value)}</td></tr>"
        for start, end, name, value in sorted(notes, key=lambda note: note[0])
    )


def _clock(milliseconds: int) -> str:
    minutes, rest = divmod(milliseconds, 60_000)
    return f"{minutes}:{rest / 1000:06.3f}"
