"""Annotated documents of scripted sentences: tables of measures with ELAN documents beside them, no video."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from asl_measures import markers_of, sentence

from fyc.asl.analysis import Analysis
from fyc.asl.elan.document import Annotation, Document, Media, Tier
from fyc.asl.elan.write import write_eaf
from fyc.asl.measures import Measures
from fyc.asl.output.annotation import MARKER_TIER, TIERS
from fyc.asl.output.csv_table import write_csv
from fyc.asl.run import EVENT_LABELS
from fyc.asl.segments import Segment
from fyc.asl.video.reader import VideoInfo

PHRASES = (("wh-question",), ("negation",), ("statement",), ("topic", "statement"))


def analysis_of(measures: Measures, video: Path) -> Analysis:
    """What the analysis of a video with these measures would be."""
    frames = len(measures)
    info = VideoInfo(video, 640, 480, 0, False, 30.0, frames / 30, frames, "h264", False, 0.0, 1.0)
    return Analysis(info, measures, ("network",) * frames, ("",) * frames, 1, "")


def tier(name: str, segments: Sequence[Segment], participant: str = "") -> Tier:
    notes = [Annotation(round(1000 * s.start_s), round(1000 * s.end_s), s.label) for s in segments]
    return Tier(name, tuple(sorted(notes, key=lambda note: note.start_ms)), participant=participant)


def annotate(
    folder: Path,
    seed: int,
    *,
    signer: str = "",
    change: Callable[[Document], Document] = lambda document: document,
    events: Mapping[str, Sequence[str]] | None = None,
) -> Path:
    """A document NAME.eaf and its table NAME.csv.

    Args:
        folder: is made if it is not there.
        seed: of the sentence.
        signer: the participant.
        change: of the document before it is written.
        events: tiers of events, with their labels.
    """
    folder.mkdir(parents=True, exist_ok=True)
    measures, gold = sentence(PHRASES[seed % len(PHRASES)], seed)
    tiers = [tier(MARKER_TIER, markers_of(gold), signer)]
    for name, labels in ({"brows": TIERS["brows"]} if events is None else events).items():
        tiers.append(tier(name, [part for part in gold if part.label in labels], signer))
    eaf = folder / f"sentence {seed:03}.eaf"
    write_csv(analysis_of(measures, eaf.with_suffix(".mp4")), [], EVENT_LABELS, eaf.with_suffix(".csv"))
    write_eaf(change(Document((Media(eaf.with_suffix(".mp4")),), tuple(tiers))), eaf)
    return eaf


def corpus(folder: Path, count: int = 16, signers: int = 4) -> Path:
    """So many documents."""
    for seed in range(count):
        annotate(folder, seed, signer=f"signer {seed // 4 % signers}")
    return folder


def with_tier(document: Document, name: str, /, **changes: object) -> Document:
    """The document with one of its tiers changed."""
    tiers = [replace(one, **changes) if one.name == name else one for one in document.tiers]  # type: ignore[arg-type]
    return replace(document, tiers=tuple(tiers))
