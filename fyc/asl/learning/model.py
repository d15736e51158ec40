"""From annotated documents to a folder with a recognizer and a report of how good it is; and back from the folder."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fyc.asl.files import alone, write_whole
from fyc.asl.learning.annotated import AnnotatedVideo, beyond
from fyc.asl.learning.examples import Material
from fyc.asl.learning.sources import remove_parts
from fyc.asl.learning.validation import FEW, Judgement, Label, judge, labels
from fyc.asl.measures import Measures
from fyc.asl.recognition.recognizer import Recognizer, load_recognizer
from fyc.asl.recognition.training import Example, train
from fyc.asl.segments import Score
from fyc.errors import FycError, ModelError, NoFaceError, UserError

#: Files of the folder.
RECOGNIZER, REPORT, TABLES = "recognizer.safetensors", "report.json", "measures"
#: What is printed and reported of a score.
_SCORES = ("f1", "precision", "recall", "onset_error_s", "offset_error_s")


@dataclass(frozen=True, repr=False)
class Learned:
    """A recognizer, and what is known of it.

    Attributes:
        recognizer: trained on everything.
        markers, events: labels that it was trained on.
        judgement: of recognizers that were trained on a part.
        warnings: what makes it doubtful, one sentence each.
    """

    recognizer: Recognizer
    markers: list[Label]
    events: list[Label]
    judgement: Judgement
    warnings: tuple[str, ...]


def measure_all(
    videos: Sequence[AnnotatedVideo], measure: Callable[[AnnotatedVideo], Measures], *, skip: bool = False
) -> tuple[list[tuple[AnnotatedVideo, Measures]], list[FycError]]:
    """The measures of all documents, in order.

    Args:
        videos: those with a table are not measured.
        measure: analyses the video of one.
        skip: whether videos that cannot be analysed are left out, and their errors returned.

    Raises:
        FycError: if a video cannot be analysed and not `skip`, or if none can.
    """
    found, errors = [], list[FycError]()
    for video in videos:
        try:
            measures = measure(video) if video.measures is None else video.measures
        except (UserError, NoFaceError) as error:
            if not skip:
                raise
            errors.append(error)
        else:
            late = beyond(video, measures)
            found.append((replace(video, notes=(*video.notes, late)) if late else video, measures))
    if errors and not found:
        raise errors[0]
    return found, errors


def learn(material: Material, data: str, report: Callable[[str], None] = lambda _: None) -> Learned:
    """Judge how well the examples can be learned from, then train on all of them.

    Args:
        material: examples, with at least one marker.
        data: a name for them.
        report: is told what is being done.
    """

    def trained(examples: Sequence[Example]) -> Recognizer:
        return train(examples, data, material.synthetic)

    judgement = judge(material.examples, trained, report)
    recognizer = train(material.examples, data, material.synthetic, report=report)
    recognizer.about = replace(
        recognizer.about,
        marker_tier=material.marker_tier,
        event_tiers=material.event_tiers,
        rules_instead=judgement.rules_instead(recognizer.level_one.classes),
    )
    markers = labels((one.signer, one.markers) for one in material.examples)
    events = labels((one.signer, one.events) for one in material.examples)
    warnings = _warnings(material, markers, events, judgement)
    return Learned(recognizer, markers, events, judgement, warnings)


def _warnings(
    material: Material, markers: Sequence[Label], events: Sequence[Label], judgement: Judgement
) -> tuple[str, ...]:
    found = list(material.notes)
    if material.synthetic:
        found.append("the annotations are synthetic: what is learned from them says nothing about a language")
    if not judgement.parts:
        found.append("everything is of one signer: how well others are recognised is not known")
    elif not material.signers_known:
        found.append(
            "some tiers of markers do not say who signs (PARTICIPANT): their videos count as signers of their own, and"
            " the scores are too good if somebody signs in several"
        )
    return (*found, *(warning for label in (*markers, *events) for warning in label.warnings))


def document(learned: Learned, videos: Sequence[AnnotatedVideo], skipped: Sequence[FycError]) -> dict[str, Any]:
    """What `report.json` holds.

    Args:
        learned: from them.
        videos: the documents.
        skipped: errors of those that were left out.
    """
    about, judgement = learned.recognizer.about, learned.judgement
    rules = judgement.rules
    return {
        "data": about.data,
        "synthetic": about.synthetic,
        "documents": [video.path.name for video in videos],
        "skipped": [error.as_dict() for error in skipped],
        "notes": [{"document": video.path.name, "note": note} for video in videos for note in video.notes],
        "warnings": list(learned.warnings),
        "judged": {"by": "signer", "parts": judgement.parts, "iou": 0.5} if judgement.parts else None,
        "few": FEW,
        "marker_tier": about.marker_tier,
        "markers": [_label(label, judgement.markers) for label in learned.markers],
        "events": [
            _label(label, judgement.events)
            | {
                "tier": about.event_tiers[label.name],
                "rules_f1": rules[label.name].f1 if label.name in rules else None,
                "found_by": "rules" if label.name in about.rules_instead else "model",
            }
            for label in learned.events
        ],
    }


def _label(label: Label, scores: Mapping[str, Score]) -> dict[str, Any]:
    score = scores.get(label.name)
    found = {name: None if score is None else getattr(score, name) for name in _SCORES}
    counts = {"label": label.name, "count": label.count, "seconds": round(label.seconds, 3), "signers": label.signers}
    return counts | found


@contextmanager
def model_folder(folder: Path) -> Iterator[None]:
    """Make the folder and have it alone; what a killed training left half-written in it is removed, tables are kept.

    Raises:
        ElanError: FYC-E05 if it cannot be written.
        ResourceError: FYC-S03 if another training writes it, FYC-S01 if the disk is full.
    """
    with alone(folder / ".train.lock", "another training is writing this model", folder):
        for name in (RECOGNIZER, REPORT):
            (folder / f".{name}.new").unlink(missing_ok=True)
        remove_parts(folder / TABLES)
        yield


def write_model(learned: Learned, report: Mapping[str, Any], folder: Path) -> None:
    """Write the report, then the recognizer: each is whole or what was there before.

    Raises:
        ElanError: FYC-E05 if they cannot be written.
        ResourceError: FYC-S01 if the disk is full.
    """
    write_whole(folder / REPORT, (json.dumps(report, indent=2, ensure_ascii=False) + "\n").encode())
    learned.recognizer.save(folder / RECOGNIZER)


def model_file(path: Path) -> Path:
    """The recognizer in a folder that `write_model` wrote; a file is itself."""
    return path / RECOGNIZER if path.is_dir() else path


def open_model(path: Path) -> Recognizer:
    """The recognizer of a folder that `write_model` wrote, or of a file.

    Raises:
        ModelError: FYC-M01 if it is not there, FYC-M03 if it is damaged, FYC-M05 if it needs texture.
    """
    recognizer = load_recognizer(model_file(path))
    if recognizer.level_one.texture is not None:
        raise ModelError(
            "FYC-M05", "this recognizer needs texture, which `fyc asl run` does not give it", where=str(path),
            next="train one with `fyc asl train`",
        )  # fmt: skip
    return recognizer
