"""Synthetic sentences as files: a video and an ELAN document of what is true in it, as a linguist would have them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from fyc.asl.elan.document import Document, Media, Vocabulary
from fyc.asl.elan.write import write_eaf
from fyc.asl.output.annotation import MARKER_TIER, SYNTHETIC, TIERS, make_tier
from fyc.asl.synthetic.contrasts import CONTRASTS
from fyc.asl.synthetic.corpora import Corpus
from fyc.asl.synthetic.measured import gold_segments
from fyc.asl.synthetic.projection import HEIGHT, WIDTH
from fyc.asl.synthetic.render import Studio
from fyc.asl.synthetic.script import MARKERS, Script
from fyc.asl.video.writer import write_video


def film(studio: Studio, script: Script, folder: Path) -> Path:
    """Write a clip and what is true in it, NAME.mp4 and NAME.eaf.

    Markers and events stand in the tiers that `fyc asl run` writes.

    Args:
        studio: renders.
        script: of the clip.
        folder: is made if it is not there.

    Returns:
        The document.

    Raises:
        AssetError: if a clip for the textures cannot be fetched.
        VideoError, ElanError: if a file cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    video, eaf = folder / f"{script.name}.mp4", folder / f"{script.name}.eaf"
    with write_video(video, (WIDTH, HEIGHT), script.fps) as writer:
        for frame in studio.render(script):
            writer.add(frame.image)
    write_eaf(truth(script, video), eaf)
    return eaf


def truth(script: Script, video: Path) -> Document:
    """What is true in a clip, as a document."""
    who = signer_name(script)
    entries = {MARKER_TIER: dict.fromkeys(MARKERS, SYNTHETIC)} | TIERS
    segments = gold_segments(script, "marker") + gold_segments(script, "event")
    tiers = tuple(make_tier(name, segments, labels, who) for name, labels in entries.items())
    vocabularies = tuple(Vocabulary(name, tuple(labels.items())) for name, labels in entries.items())
    return Document((Media(video),), tiers, vocabularies)


def signer_name(script: Script) -> str:
    """The name of a signer."""
    return f"{script.signer.split}-{script.signer.head:02}"


def sentences(corpus: Corpus, each: int) -> Iterator[Script]:
    """So many sentences of each signer, the first ones."""
    for signer in range(corpus.signers):
        for number in range(min(each, corpus.sentences)):
            yield corpus.sentence(signer * corpus.sentences + number)


def pairs(corpus: Corpus, each: int) -> Iterator[Script]:
    """Both sides of so many minimal pairs of each contrast and signer, the first ones."""
    for signer in range(corpus.signers):
        for contrast in CONTRASTS:
            for number in range(min(each, corpus.pairs)):
                yield from corpus.pair(contrast, signer, number)
