"""One video in, all results out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from fyc.asl.analysis import Analysis, Analyst, Progress
from fyc.asl.files import staged, unwritable
from fyc.asl.output.annotation import MARKER_TIER, TIERS, TRACK_TIER, Scheme, make_tiers, write_annotation
from fyc.asl.output.claim import keep_edited, remove_stale
from fyc.asl.output.csv_table import write_csv
from fyc.asl.output.overlay import write_overlay
from fyc.asl.output.record import Record
from fyc.asl.output.report import Origin, write_report
from fyc.asl.output.subtitles import write_webvtt
from fyc.asl.output.thumbnails import Thumbnails
from fyc.asl.recognition.events import detect
from fyc.asl.recognition.features import extract
from fyc.asl.recognition.recognizer import About, Recognizer
from fyc.asl.segments import Segment
from fyc.asl.tracking.track_file import write_track

#: Events that are looked for, in the order of the columns of the table.
EVENT_LABELS = tuple(label for entries in TIERS.values() for label in entries)


@dataclass(frozen=True)
class Results:
    """Files of a video: overlay and track are written first, of the others one by one the document last.

    Attributes:
        eaf, csv, vtt, overlay, report, track: the files; `overlay` and `report` are None if none was asked for.
    """

    eaf: Path
    csv: Path
    vtt: Path
    overlay: Path | None
    report: Path | None
    track: Path

    @classmethod
    def in_folder(cls, folder: Path, name: str, *, overlay: bool = True, report: bool = True) -> Results:
        """The files of a video called `name`."""
        return cls(
            folder / f"{name}.eaf", folder / f"{name}.csv", folder / f"{name}.vtt",
            folder / f"{name}.overlay.mp4" if overlay else None, folder / f"{name}.report.html" if report else None,
            folder / f"{name}.track.safetensors",
        )  # fmt: skip


@dataclass(frozen=True)
class Findings:
    """What was found in a video.

    Attributes:
        analysis: what was measured.
        events: what the brows, the eyes and the head do, by label and time.
        markers: grammatical markers, by label and time.
        scheme: what was looked for; no markers without a recognizer.
        about: what the recognizer was trained on; None without one.
    """

    analysis: Analysis
    events: list[Segment]
    markers: list[Segment]
    scheme: Scheme
    about: About | None


def find(analysis: Analysis, recognizer: Recognizer | None = None) -> Findings:
    """Events by their rules, and markers by a recognizer if there is one, where the track can be trusted.

    Events that the recognizer finds better than the rules, or that have none, are those of the recognizer.
    """
    measures = analysis.measures.trusted()
    events = [event.plain for event in detect(extract(measures))]
    if recognizer is None:
        return Findings(analysis, events, [], Scheme(), None)
    found = recognizer.recognise(measures)
    learned = _learned(recognizer)
    events = [event for event in events if event.label not in learned]
    events += [event.plain for event in found.events if event.label in learned]
    scheme = scheme_of(recognizer)
    known = {label for entries in scheme.events.values() for label in entries}
    events = sorted((e for e in events if e.label in known), key=lambda event: (event.label, event.start_s))
    markers = [marker.plain for marker in found.markers]
    return Findings(analysis, events, markers, scheme, recognizer.about)


def scheme_of(recognizer: Recognizer) -> Scheme:
    """Tiers of what a recognizer finds, named as those that it was trained on.

    Events that have rules stay in their tiers. Others have the tier in which they were annotated; if that has the name
    of one with rules, what the recognizer does not find is no longer in it.
    """
    about, learned = recognizer.about, _learned(recognizer)
    source = f"learned from {about.data}" + (", which is synthetic: says nothing about a language" * about.synthetic)
    own: dict[str, dict[str, str]] = {}
    for label in sorted(learned - set(EVENT_LABELS)):
        own.setdefault(about.event_tiers.get(label) or "events", {})[label] = source
    tiers = {
        name: {label: text for label, text in entries.items() if name not in own or label in learned}
        for name, entries in TIERS.items()
    }
    for name, entries in own.items():
        tiers[name] = tiers.get(name, {}) | entries
    marker_tier = _free_name(about.marker_tier or MARKER_TIER, {TRACK_TIER})
    taken = {TRACK_TIER, marker_tier}
    named = {_free_name(name, taken): entries for name, entries in tiers.items()}
    return Scheme(named, dict.fromkeys(recognizer.markers, source), marker_tier)


def _learned(recognizer: Recognizer) -> set[str]:
    """Kinds of events that are taken from a recognizer."""
    return set(recognizer.level_one.classes) - set(recognizer.about.rules_instead)


def _free_name(name: str, taken: set[str]) -> str:
    while name in taken:
        name += " (2)"
    return name


def run_video(
    video: Path,
    results: Results,
    analyst: Analyst,
    recognizer: Recognizer | None = None,
    progress: Progress | None = None,
    record: Record | None = None,
) -> Findings:
    """Analyse a video and write its results. A document that was edited is copied before it is written again.

    Args:
        video: the video.
        results: where to write; the folder is made if it is not there.
        analyst: how it is analysed.
        recognizer: finds markers; without one none are looked for.
        progress: is told how far it is.
        record: what the document says of how it was made.

    Raises:
        VideoError: if the video cannot be read, or the overlay cannot be written.
        NoFaceError: FYC-V06 if there is no face.
        ElanError: if a document cannot be written.
        ResourceError: FYC-S01 if the disk is full.
    """
    try:
        results.eaf.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise unwritable(results.eaf.parent, error) from error
    pictures = None if results.report is None else Thumbnails()
    # All that takes long is done before the first result is replaced, so that old and new ones are hardly ever mixed.
    with staged(results.track) as track_part:
        with write_track(track_part, {"video": video.name, "format": "fyc-asl-track-1"}) as track:
            analysis = analyst.analyse(
                video, track, progress, None if pictures is None else lambda frame, _: pictures.add(frame)
            )
        found = find(analysis, recognizer)
        if results.overlay is not None:
            write_overlay(analysis, track_part, [*found.markers, *found.events], analyst.mesh, results.overlay)
    scheme = found.scheme
    columns = [label for entries in scheme.events.values() for label in entries]
    remove_stale(results)
    write_csv(analysis, found.events, columns, results.csv, found.markers, tuple(scheme.markers))
    tiers = make_tiers(analysis, found.events, found.markers, scheme)
    write_webvtt((tier for tier in tiers if tier.annotations), results.vtt)
    if results.report is not None and pictures is not None:
        about, learned = (recognizer.about, sorted(_learned(recognizer))) if recognizer else (None, [])
        origin = Origin(record.settings if record else "", about, results.overlay, tuple(learned))
        write_report(analysis, tiers, pictures, origin, results.report)
    keep_edited(results.eaf)
    made = record.properties if record else ()
    write_annotation(analysis, found.events, found.markers, scheme, results.eaf, results.csv, made)
    return found
