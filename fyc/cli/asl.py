"""`fyc asl`: nonmanual markers of sign language."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fyc.cli import asl_bench, asl_run, asl_signer, asl_train
from fyc.cli.options import Json

if TYPE_CHECKING:
    from fyc.asl.comparison import Comparison
    from fyc.asl.segments import Score

asl = typer.Typer(name="asl", rich_markup_mode=None, no_args_is_help=True)
#: What is shown of a score, in order.
_MEASURES = ("precision", "recall", "f1", "onset_error_s", "offset_error_s", "accuracy", "kappa")


def add_to(app: typer.Typer) -> None:
    """Add `fyc asl`."""
    asl_run.add_to(asl)
    asl_signer.add_to(asl)
    asl_train.add_to(asl)
    asl.add_typer(asl_bench.bench)
    app.add_typer(asl)


@asl.callback()
def asl_group() -> None:
    """Annotate nonmanual markers of sign language in videos, and judge annotations."""


@asl.command("eval")
def eval_command(
    pred: Annotated[Path, typer.Option("--pred", help="The predicted .eaf, or a folder of them.")],
    truth: Annotated[Path, typer.Option("--truth", help="The true .eaf, or a folder of them.")],
    tier: Annotated[
        list[str] | None, typer.Option("--tier", help="A tier to compare; repeatable. By default all that both have.")
    ] = None,
    iou: Annotated[
        float, typer.Option("--iou", min=0.0, max=1.0, help="Least intersection over union of a pair of segments.")
    ] = 0.5,
    fps: Annotated[
        float, typer.Option("--fps", min=0.1, help="Frames per second, for errors in frames and agreement of frames.")
    ] = 25.0,
    json: Json = False,
) -> None:
    """Compare ELAN annotations with true ones: F1 of segments, errors of onset and offset, agreement of frames.

    A predicted and a true segment of one tier and label are a pair if they overlap enough; each is in one pair at
    most. Onset and offset errors are means over the pairs, without sign. Accuracy and Cohen's kappa are those of
    frames, up to the last annotation. In folders, files of the same name are compared. What has no counterpart is
    named and not counted.
    """
    from fyc.asl.comparison import compare
    from fyc.cli.runtime import print_json

    found = compare(pred, truth, tiers=tier or (), threshold=iou, rate=fps)
    if json:
        print_json(_document(found, iou, fps))
    else:
        _show(found, fps)


def _document(found: Comparison, threshold: float, rate: float) -> dict[str, Any]:
    """What `--json` prints."""
    from fyc.asl.segments import micro

    return {
        "iou": threshold,
        "fps": rate,
        "files": [{"pred": str(ours), "truth": str(theirs)} for ours, theirs in found.files],
        "classes": [
            {"tier": tier, "label": label, **_values(score, rate)} for (tier, label), score in found.scores.items()
        ],
        "micro": _values(micro(found.scores.values()), rate),
        "macro": _macro(found, rate),
        "unmatched": found.unmatched,
        "problems": found.problems,
    }


def _values(score: Score, rate: float) -> dict[str, Any]:
    counts = {"true": score.true, "predicted": score.predicted, "matched": score.matched}
    return counts | _with_frames({name: getattr(score, name) for name in _MEASURES}, rate)


def _macro(found: Comparison, rate: float) -> dict[str, Any]:
    from fyc.asl.segments import macro

    return _with_frames({name: macro(found.scores.values(), name) for name in _MEASURES}, rate)


def _with_frames(values: dict[str, Any], rate: float) -> dict[str, Any]:
    """The measures, with the errors in seconds again in frames."""
    frames = {
        name.replace("_s", "_frames"): None if values[name] is None else values[name] * rate
        for name in ("onset_error_s", "offset_error_s")
    }
    return values | frames


def _show(found: Comparison, rate: float) -> None:
    from fyc.asl.segments import micro
    from fyc.ui.tables import show_table

    rows = [(tier, label, _values(score, rate)) for (tier, label), score in found.scores.items()]
    rows.append(("micro", "all segments", _values(micro(found.scores.values()), rate)))
    rows.append(("macro", "mean of classes", _macro(found, rate)))
    tables = {
        "segments": {"true": "true", "predicted": "predicted", "matched": "matched", "precision": "precision",
                     "recall": "recall", "f1": "F1"},
        "edges of the matched, and frames": {
            "onset_error_s": "onset, s", "onset_error_frames": "frames", "offset_error_s": "offset, s",
            "offset_error_frames": "frames", "accuracy": "accuracy", "kappa": "kappa"},
    }  # fmt: skip
    for title, columns in tables.items():
        cells = [[tier, label, *(values.get(name) for name in columns)] for tier, label, values in rows]
        show_table(("tier", "label", *columns.values()), cells, title=title)
        typer.echo()
    typer.echo(f"files: {len(found.files)}")
    for title, lines in (("not compared", _grouped(found.unmatched)), ("problem", found.problems)):
        for line in lines:
            typer.echo(f"{title}: {line}", err=True)


def _grouped(lines: list[str]) -> list[str]:
    """A tier that many documents lack is told once."""
    places: dict[str, list[str]] = {}
    for line in lines:
        what, _, where = line.partition(": not in ")
        places.setdefault(what, []).append(where)
    return [
        f"{what}: not in {where[0]}" + (f" and {len(where) - 1} more" if len(where) > 1 else "") if where[0] else what
        for what, where in places.items()
    ]
