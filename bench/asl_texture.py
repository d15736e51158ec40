"""Does texture help recognition? Rendered synthetic sentences, through the whole pipeline.

    python bench/asl_texture.py --films FOLDER --cache FOLDER [--each N] [--workers N]

Trains on the first N sentences of each signer of the corpus `fit` and prints figures of those of `check`: with geometry
only, texture only (no geometry in it at all), and both. Films that are not in FOLDER/CORPUS/SIGNER yet are rendered
there; measures and descriptions of each are kept in the cache, CORPUS/NAME.npz. The first run takes hours, later ones
minutes.

Texture is described less the median of its signer, over all of their clips here: at rest, faces differ more from each
other than from themselves. Geometry knows rest from each clip alone. So whatever the comparison favours is texture.
Chosen on `fit`, two thirds against one: the median of the signer, not of the clip; 24 components, not 8. Of local
binary patterns the two coarser levels are used. Figures of single frames of `check` were seen meanwhile.

All is synthetic: textures of two real men on heads that do not exist. Nothing here says anything about ASL.
"""

from __future__ import annotations

import argparse
import platform
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing import Pool
from pathlib import Path
from tempfile import TemporaryDirectory

import cv2
import numpy as np

from fyc.asl.analysis import Analyst
from fyc.asl.bench.recognition_figures import Agreement, true_segments
from fyc.asl.face.bundle import load_bundle
from fyc.asl.face.texture import DIRECTIONS, LEVELS, PARTS, PATTERNS, TexturePyramid
from fyc.asl.measures import Measures
from fyc.asl.recognition.events import RULES
from fyc.asl.recognition.features import FEATURES
from fyc.asl.recognition.training import Example, Settings, train
from fyc.asl.signer import VIEW
from fyc.asl.synthetic.corpora import CORPORA
from fyc.asl.synthetic.films import film, sentences, signer_name
from fyc.asl.synthetic.render import Studio
from fyc.asl.synthetic.script import MARKERS, Script
from fyc.asl.tracking.track_file import write_track
from fyc.plugins import load_plugins

BINS = {"lbp": PATTERNS, "gradients": DIRECTIONS}
#: Cells along a side that are used of each.
USED = {"lbp": (1, 2), "gradients": LEVELS}


@dataclass
class Clip:
    """A sentence: what was measured in its T frames, and descriptions (T, P) by their names."""

    script: Script
    measures: Measures
    textures: dict[str, np.ndarray]


def columns(name: str) -> np.ndarray:
    """Of a description, those of the cells that are used."""
    used = np.concatenate([np.full(level**2, level in USED[name]) for _ in PARTS for level in LEVELS])
    return np.flatnonzero(np.repeat(used, BINS[name]))


def make_films(name: str, each: int, films: Path) -> None:
    """Render what is not there."""
    studio = None
    for script in sentences(CORPORA[name], each):
        folder = films / name / signer_name(script)
        if not (folder / f"{script.name}.eaf").exists():
            studio = studio or Studio(load_bundle())
            film(studio, script, folder)


def analyse(video: Path, kept: Path) -> None:
    """Measure and describe a film, and keep that."""
    bundle = load_bundle()
    pyramids = {name: TexturePyramid(bundle.mesh, VIEW, descriptor=name) for name in ("lbp", "gradients")}
    rows: dict[str, list[np.ndarray]] = {name: [] for name in pyramids}

    def watch(frame: object, measured: object) -> None:
        for name, pyramid in pyramids.items():
            row = np.full(pyramid.length, np.nan) if measured is None else pyramid.describe(measured.view)  # type: ignore[attr-defined]
            rows[name].append(row.astype(np.float16))

    with TemporaryDirectory() as folder, write_track(Path(folder) / "track", {}) as track:
        measures = Analyst(bundle, load_plugins()).analyse(video, track, None, watch).measures
    part = kept.with_name(f".{kept.name}")
    part.parent.mkdir(parents=True, exist_ok=True)
    described = {name: np.array(values) for name, values in rows.items()}
    known = {name: getattr(measures, name) for name in ("time_s", "confidence", "table", "occluded")}
    np.savez(part, **known, **described)
    part.rename(kept)


def clip_of(job: tuple[str, int, Path, Path]) -> Clip:
    name, number, films, cache = job
    cv2.setNumThreads(1)
    script = CORPORA[name].sentence(number)
    kept = cache / name / f"{script.name}.npz"
    if not kept.exists():
        analyse(films / name / signer_name(script) / f"{script.name}.mp4", kept)
    with np.load(kept) as file:
        measures = Measures.from_table(*(file[name] for name in ("time_s", "confidence", "table", "occluded")))
        textures = {name: file[name][:, columns(name)].astype(np.float64) for name in BINS}
    return Clip(script, measures.trusted(), textures)


def take_rest_off(clips: Sequence[Clip]) -> None:
    """Descriptions less the median of their signer."""
    by_signer = defaultdict(list)
    for clip in clips:
        by_signer[clip.script.signer].append(clip)
    for own in by_signer.values():
        for name in BINS:
            rest = np.nanmedian(np.concatenate([clip.textures[name] for clip in own]), axis=0)
            for clip in own:
                clip.textures[name] -= rest


def clips_of(name: str, options: argparse.Namespace, pool: Pool) -> list[Clip]:  # type: ignore[valid-type]
    make_films(name, options.each, options.films)
    corpus = CORPORA[name]
    numbers = [
        s * corpus.sentences + n for s in range(corpus.signers) for n in range(min(options.each, corpus.sentences))
    ]
    clips = pool.map(clip_of, [(name, number, options.films, options.cache) for number in numbers])  # type: ignore[attr-defined]
    take_rest_off(clips)
    return list(clips)


def judge(job: tuple[list[Clip], list[Clip], bool, str]) -> dict[str, Agreement]:
    """Train on some clips and count what is found in others; geometry or not, and which texture, if any."""
    fit, check, geometry, texture = job

    def example(clip: Clip) -> Example:
        described = clip.textures[texture] if texture else None
        events, markers = (true_segments(clip.script, tier) for tier in ("event", "marker"))
        return Example(clip.measures, events, markers, str(clip.script.signer), described)

    settings = Settings(features=FEATURES if geometry else ())
    recognizer = train([example(clip) for clip in fit], "fit", synthetic=True, settings=settings)
    if recognizer.level_one.by_rules:
        raise SystemExit(f"too few sentences: none has {recognizer.level_one.by_rules}, whose rules are geometry")
    found = [recognizer.recognise(clip.measures, clip.textures[texture] if texture else None) for clip in check]
    return {
        tier: Agreement.of(
            [getattr(one, f"{tier}s") for one in found],
            [true_segments(clip.script, tier) for clip in check],
            classes,
            range(len(check)),
        )
        for tier, classes in (("marker", MARKERS), ("event", tuple(RULES)))
    }


MODELS = {
    "geometry": (True, ""),
    "texture, gradients": (False, "gradients"),
    "texture, lbp": (False, "lbp"),
    "geometry and gradients": (True, "gradients"),
    "geometry and lbp": (True, "lbp"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--films", type=Path, required=True)
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--each", type=int, default=10, help="sentences of each signer")
    parser.add_argument("--workers", type=int, default=1)
    options = parser.parse_args()
    with Pool(options.workers) as pool:
        fit, check = clips_of("fit", options, pool), clips_of("check", options, pool)
        print(f"SYNTHETIC, rendered. {platform.machine()}, numpy {np.__version__}")
        print(
            f"trained on {len(fit)} sentences of fit, measured on {len(check)} of check; segment F1 at IoU 0.5, macro;"
        )
        print("95 % intervals over sentences; behind them the difference from geometry alone", flush=True)
        reference: dict[str, Agreement] = {}
        for name, found in zip(MODELS, pool.imap(judge, [(fit, check, *how) for how in MODELS.values()]), strict=True):
            reference = reference or found
            for tier, own in found.items():
                apart = own.above(reference[tier])
                print(
                    f"{name}, {tier}s: {own.macro().text(digits=3)}  {apart.text(digits=3)}\n{own.table()}", flush=True
                )


if __name__ == "__main__":
    main()
