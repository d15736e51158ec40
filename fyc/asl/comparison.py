"""Compares ELAN documents tier by tier: what was predicted with what is true, one file or a folder of them."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fyc.asl.elan.document import Document, Tier
from fyc.asl.elan.read import read_eaf
from fyc.asl.files import documents_in
from fyc.asl.segments import Score, Segment, score
from fyc.errors import ElanError, UserError


@dataclass
class Comparison:
    """The scores of one or more pairs of documents.

    Attributes:
        scores: for (tier, label), over all pairs of files.
        files: the pairs, as (predicted, true).
        unmatched: what has no counterpart and was not compared: a file or a tier, one sentence each.
        problems: what is wrong in the documents themselves, with the file in front.
    """

    scores: dict[tuple[str, str], Score] = field(default_factory=dict)
    files: list[tuple[Path, Path]] = field(default_factory=list)
    unmatched: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def compare(
    predicted: str | Path, true: str | Path, *, tiers: Sequence[str] = (), threshold: float = 0.5, rate: float = 25.0
) -> Comparison:
    """Compare two documents, or the documents of two folders that have the same name but for the suffix.

    Labels are compared without spaces around them. A video counts as long as the last annotation of either document.

    Args:
        predicted: an `.eaf`, or a folder of them.
        true: the same.
        tiers: names of the tiers to compare; none: all that both documents have.
        threshold: least intersection over union of a pair of segments.
        rate: frames per second for the agreement of frames.

    Raises:
        ElanError: FYC-E01 to FYC-E03 for a document, FYC-E06 if no file or no tier has a counterpart.
        UserError: FYC-R09 for a file and a folder, or a rate or threshold that is no number that could be used.
    """
    if not (0 < rate < math.inf and 0 <= threshold <= 1):
        raise UserError("FYC-R09", f"{rate} frames per second, or an overlap of {threshold}, cannot be used")
    found = Comparison()
    found.files = _pairs(Path(predicted), Path(true), found.unmatched)
    scores: dict[tuple[str, str], Score] = defaultdict(Score)
    known: set[str] = set()
    compared = False
    for ours, theirs in found.files:
        documents = _read(ours, found), _read(theirs, found)
        known |= {tier.name for document in documents for tier in document.tiers}
        duration = max((a.end_ms for d in documents for t in d.tiers for a in t.annotations), default=0) / 1000
        for name in _common(documents, tiers, (ours, theirs), found.unmatched):
            compared = True
            sides = [segments(document.tier(name)) for document in documents]
            for label, one in score(*sides, threshold=threshold, rate=rate, duration_s=duration).items():
                scores[name, label] += one
    if not compared:
        what = f"no tier {' or '.join(map(repr, tiers))}" if tiers else "no tier"
        raise _nothing(predicted, true, f"{what} is in both; there are: {', '.join(sorted(known)) or 'none'}")
    found.scores = dict(sorted(scores.items()))
    return found


def segments(tier: Tier) -> list[Segment]:
    """The annotations of a tier as segments, in seconds."""
    return [Segment(a.start_ms / 1000, a.end_ms / 1000, a.value.strip()) for a in tier.annotations]


def _read(path: Path, found: Comparison) -> Document:
    document = read_eaf(path)
    found.problems += [f"{path}: {problem}" for problem in document.problems]
    return document


def _pairs(predicted: Path, true: Path, unmatched: list[str]) -> list[tuple[Path, Path]]:
    if not (predicted.is_dir() or true.is_dir()):
        return [(predicted, true)]
    for path, other in ((predicted, true), (true, predicted)):
        if not path.is_dir() and path.exists():
            raise UserError(
                "FYC-R09", "a file cannot be compared with a folder", where=f"{path}, {other}",
                next="give two files or two folders",
            )  # fmt: skip
    ours, theirs = _documents(predicted), _documents(true)
    unmatched += [f"file {ours[stem]}: no true file of this name" for stem in sorted(ours.keys() - theirs.keys())]
    unmatched += [
        f"file {theirs[stem]}: no predicted file of this name" for stem in sorted(theirs.keys() - ours.keys())
    ]
    common = sorted(ours.keys() & theirs.keys())
    if not common:
        raise _nothing(predicted, true, f"{len(ours)} and {len(theirs)} .eaf files, of which no two have the same name")
    return [(ours[stem], theirs[stem]) for stem in common]


def _documents(folder: Path) -> dict[str, Path]:
    if not folder.exists():
        raise ElanError("FYC-E01", "the folder cannot be found", where=str(folder), next="check the path")
    return {path.relative_to(folder).with_suffix("").as_posix(): path for path in documents_in(folder)}


def _common(
    documents: tuple[Document, Document], tiers: Sequence[str], paths: tuple[Path, Path], unmatched: list[str]
) -> list[str]:
    """Names of the tiers to compare, in the order of the true document; those of one document only are told."""
    ours, theirs = ({tier.name for tier in document.tiers} for document in documents)
    wanted = list(dict.fromkeys(tiers)) or [
        *(tier.name for tier in documents[1].tiers),
        *(tier.name for tier in documents[0].tiers if tier.name not in theirs),
    ]
    for name in wanted:
        if name not in ours:
            unmatched.append(f"tier {name!r}: not in {paths[0]}")
        if name not in theirs:
            unmatched.append(f"tier {name!r}: not in {paths[1]}")
    return [name for name in wanted if name in ours and name in theirs]


def _nothing(predicted: str | Path, true: str | Path, why: str) -> ElanError:
    return ElanError(
        "FYC-E06", "there is nothing to compare", where=f"{predicted}, {true}", why=why,
        next="name tiers that both have with --tier, or give files of the same names",
    )  # fmt: skip
