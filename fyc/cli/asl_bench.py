"""`fyc asl bench`: how well faces are measured and followed on synthetic heads, and these as films."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from fyc.cli.options import Json, Offline

if TYPE_CHECKING:
    from rich.progress import Progress

    from fyc.asl.bench.pose_figures import BrowFigures, PoseFigures
    from fyc.asl.bench.tracking_figures import TrackingFigures

bench = typer.Typer(name="bench", rich_markup_mode=None, no_args_is_help=True)

Split = Annotated[
    Literal["fit", "calibration", "held-out"],
    typer.Option("--split", help="Of heads and textures. `held-out` is for final figures only."),
]
CorpusName = Annotated[
    Literal["fit", "check", "held-out"],
    typer.Option("--corpus", help="Whose sentences. `held-out` is for final figures only."),
]
_HELD_OUT = "the split held-out is for final figures only: once something was tuned on it, it says nothing any more"
_NOTE = "SYNTHETIC: pictures of heads that do not exist; these figures say nothing of any sign language"


@bench.callback()
def bench_group() -> None:
    """Measure on SYNTHETIC heads, of which all is known: pose, brows, tracking; or write them as films."""


@bench.command("pose")
def pose(
    heads: Annotated[int, typer.Option("--heads", min=1, help="How many heads, 64 pictures each.")] = 8,
    yaw: Annotated[float, typer.Option("--yaw", min=1, max=60, help="Heads turn this far, in degrees.")] = 25.0,
    split: Split = "calibration",
    offline: Offline = False,
    json: Json = False,
) -> None:
    """Pose and brows in single SYNTHETIC pictures, by the landmark network, by the canonical mesh, and by fyc.

    Yaw as asked for, pitch to 25 and roll to 15 degrees; brows up by 0.35 cm in a third of the pictures; the field of
    view is not told. Intervals are 95 %, by bootstrap over heads. Textures come from clips that are fetched.
    """
    from fyc.asl.bench.pose import measure_head
    from fyc.asl.bench.pose_figures import brow_figures, pose_figures
    from fyc.asl.face.bundle import load_bundle
    from fyc.asl.synthetic.heads import HEAD_SPLITS
    from fyc.asl.synthetic.render import Studio
    from fyc.cli.runtime import print_json

    _warn(split)
    if heads > HEAD_SPLITS[split]:
        raise typer.BadParameter(f"the split {split} has {HEAD_SPLITS[split]} heads", param_hint="--heads")
    studio = Studio(load_bundle(offline=offline), offline=offline)
    with _progress() as bars:
        found = [measure_head(studio, split, head, yaw) for head in bars.track(range(heads), description="heads")]
    poses, brows = pose_figures(found), brow_figures(found)
    pictures = sum(len(head.truth) for head in found)
    if json:
        figures = {"pose": _documents(poses), "brows": _documents(brows)}
        print_json(_header(split) | {"heads": heads, "pictures": pictures, "yaw_deg": yaw} | figures)
    else:
        show_pose(f"SYNTHETIC, split {split}: {heads} heads, {pictures} pictures, yaw to {yaw:g} degrees", poses, brows)


@bench.command("tracking")
def tracking(
    clips: Annotated[int, typer.Option("--clips", min=1, help="Of each kind.")] = 1,
    kinds: Annotated[
        list[str] | None, typer.Option("--kinds", help="A kind of clip; repeatable. By default all.")
    ] = None,
    systems: Annotated[
        list[str] | None, typer.Option("--systems", help="A system, such as `ensemble`; repeatable. By default all.")
    ] = None,
    split: Split = "calibration",
    offline: Offline = False,
    json: Json = False,
) -> None:
    """Faces followed through SYNTHETIC clips with hands, panels, cuts, blackouts, darkness, blur, and more.

    By the landmark network alone, by the ensemble with all trackers that plugins register, by the ensemble that always
    takes the best tracker, and by the ensemble without each tracker, finder and part. Intervals are 95 %, by bootstrap
    over clips.
    """
    import cv2

    from fyc.asl.bench.clips import KINDS, Measured, clip_of, follow
    from fyc.asl.bench.systems import systems as all_systems
    from fyc.asl.bench.tracking_figures import tracking_figures
    from fyc.asl.face.bundle import load_bundle
    from fyc.asl.synthetic.render import Studio
    from fyc.cli.runtime import print_json
    from fyc.plugins import load_plugins

    _warn(split)
    chosen = _among(kinds, KINDS, "--kinds")
    cv2.setNumThreads(1)  # times are those of one core
    bundle = load_bundle(offline=offline)
    studio, available = Studio(bundle, offline=offline), all_systems(bundle, load_plugins())
    names = _among(systems, list(available), "--systems")
    frames: dict[str, list[Measured]] = {name: [] for name in names}
    with _progress() as bars:
        for kind in chosen:
            for number in range(clips):
                script = clip_of(kind, split, number)
                task = bars.add_task(f"{kind} {number + 1} of {clips}", total=script.frames * len(names))
                for name, frame in follow(studio, kind, script, {name: available[name]() for name in names}):
                    frames[name].append(frame)
                    bars.advance(task)
    overall = {name: tracking_figures(own) for name, own in frames.items()}
    by_kind = {
        name: {kind: tracking_figures([frame for frame in own if frame.kind == kind]) for kind in chosen}
        for name, own in frames.items()
    }
    if json:
        figures = {name: figures.document() | {"kinds": _documents(by_kind[name])} for name, figures in overall.items()}
        print_json(_header(split) | {"clips_of_each_kind": clips, "systems": figures})
    else:
        show_tracking(f"SYNTHETIC, split {split}, {clips} of each kind", overall, by_kind)


@bench.command("films")
def films(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Where the files go.", show_default=False)],
    corpus: CorpusName = "fit",
    sentences: Annotated[int, typer.Option("--sentences", min=0, help="Of each signer.")] = 1,
    pairs: Annotated[
        int, typer.Option("--pairs", min=0, help="Of each contrast and signer: two clips that differ in one cue.")
    ] = 0,
    offline: Offline = False,
    json: Json = False,
) -> None:
    """Write SYNTHETIC sentences as videos, each with an ELAN document of what is true in it.

    A folder for each signer. For trying `fyc asl signer`, `run`, `train` and `eval` without an annotated corpus. What
    is there is not written again.
    """
    from fyc.asl.face.bundle import load_bundle
    from fyc.asl.synthetic.corpora import CORPORA
    from fyc.asl.synthetic.films import film, signer_name
    from fyc.asl.synthetic.films import pairs as all_pairs
    from fyc.asl.synthetic.films import sentences as all_sentences
    from fyc.asl.synthetic.render import Studio
    from fyc.cli.runtime import print_json

    _warn(corpus)
    if sentences + pairs == 0:
        raise typer.BadParameter("there is nothing to write: give --sentences or --pairs")
    source = CORPORA[corpus]
    scripts = [*all_sentences(source, sentences), *all_pairs(source, pairs)]
    folders = {script.name: folder / signer_name(script) for script in scripts}
    missing = [script for script in scripts if not (folders[script.name] / f"{script.name}.eaf").exists()]
    studio = Studio(load_bundle(offline=offline), offline=offline)
    with _progress() as bars:
        written = [
            str(film(studio, script, folders[script.name])) for script in bars.track(missing, description="films")
        ]
    there = len(scripts) - len(missing)
    if json:
        print_json(_header(corpus) | {"corpus": corpus, "documents": written, "there_before": there})
    else:
        typer.echo(
            f"SYNTHETIC sentences of the corpus {corpus}: {len(written)} videos and documents written to {folder}"
        )
        if there:
            typer.echo(f"{there} were there and were not written again")


def _warn(split: str) -> None:
    if split == "held-out":
        typer.echo(_HELD_OUT, err=True)


def _header(split: str) -> dict[str, Any]:
    return {"synthetic": True, "note": _NOTE, "split": split} | ({"warning": _HELD_OUT} if split == "held-out" else {})


def _documents(figures: Mapping[str, Any]) -> dict[str, Any]:
    return {name: part.document() for name, part in figures.items()}


def _among(asked: Sequence[str] | None, known: Sequence[str], option: str) -> list[str]:
    """What was asked for, each once; all if nothing was."""
    names = list(dict.fromkeys(asked or known))
    for name in names:
        if name not in known:
            raise typer.BadParameter(f"{name!r} is not one of {', '.join(known)}", param_hint=option)
    return names


@contextmanager
def _progress() -> Iterator[Progress]:
    """Bars, on a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    console = Console(stderr=True)
    with Progress(*columns, console=console, disable=not console.is_terminal) as bars:
        yield bars


def show_pose(title: str, poses: Mapping[str, PoseFigures], brows: Mapping[str, BrowFigures]) -> None:
    """Print figures of pose and brows."""
    from fyc.asl.bench.pose_figures import BINS
    from fyc.ui.tables import show_table

    rows = []
    for name, part in poses.items():
        figures = (part.error, part.relative, *part.axes, *part.bins)
        rows.append([name, f"{100 * part.missed:.1f}", *(figure.text() for figure in figures)])
    bins = [f"|yaw {low}-{high}|" for low, high in BINS]
    columns = ["", "missed, %", "error, degrees", "without offset", "yaw", "pitch", "roll", *bins]
    show_table(columns, rows, title=f"{title}: pose")
    rows = []
    for name, brow in brows.items():
        cells = (brow.auc.text(), f"{brow.worst:.2f}", brow.scatter.text(), f"{brow.drift:+.2f}")
        rows.append([name, f"{100 * brow.unknown:.1f}", *cells])
    typer.echo()
    columns = ["", "unknown, %", "AUC of a raise of 0.35 cm", "worst head", "|r| of rest with pitch", "r"]
    show_table(columns, rows, title="SYNTHETIC: brows")
    typer.echo("\nmean over heads, 95 % interval by bootstrap over heads; AUC and r: within each head")
    typer.echo("without offset: after the median error of each axis of each head was taken off; r: with its sign")


def show_tracking(
    title: str, overall: Mapping[str, TrackingFigures], by_kind: Mapping[str, Mapping[str, TrackingFigures]]
) -> None:
    """Print figures of systems, then of each kind of clip."""
    from fyc.ui.tables import show_table

    columns = (
        "", "frames", "lost, %", "unsure, %", "wrong, %", "calibration error", "NME, %", ">10, %", "pose, degrees",
        "ms", "recovery: median", "most", "events",
    )  # fmt: skip
    show_table(columns, [[name, *_cells(part)] for name, part in overall.items()], title=title)
    for name, kinds in by_kind.items():
        typer.echo()
        show_table(columns, [[kind, *_cells(part)] for kind, part in kinds.items()], title=f"SYNTHETIC: {name}")
    typer.echo("\nlost, unsure (lost, or confidence < 0.5): of frames with a face, less than 90 % of it covered")
    typer.echo("wrong: confidence >= 0.5 and a mean error of more than 10 % of the distance of the eyes, of all frames")
    typer.echo("NME: median; recovery: frames until right again after a cut, a blackout or a cover; 30 is never")
    typer.echo("95 % intervals by bootstrap over clips")


def _cells(part: TrackingFigures) -> list[str]:
    import numpy as np

    def plain(value: float | None, factor: float = 1, digits: int = 1) -> str:
        return "-" if value is None or np.isnan(value) else f"{factor * value:.{digits}f}"

    waits = part.waits
    return [
        str(part.frames), part.lost.text(100, 1), part.unsure.text(100, 1), part.wrong.text(100, 1),
        part.calibration.text(1, 3), plain(part.nme, 100), plain(part.off, 100),
        plain(part.pose, digits=2), plain(part.ms),
        f"{np.median(waits):.0f}" if waits else "-", str(max(waits)) if waits else "-", str(len(waits)),
    ]  # fmt: skip
