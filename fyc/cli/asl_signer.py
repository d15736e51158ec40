"""`fyc asl signer`: learn how somebody looks at rest, from several videos."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from fyc.cli.options import Json, Offline


def add_to(app: typer.Typer) -> None:
    """Add `fyc asl signer`."""
    app.command("signer")(signer)


def signer(
    videos: Annotated[
        list[Path],
        typer.Argument(metavar="VIDEO...", help="Videos of one person, or folders of them.", show_default=False),
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The file, such as anna.safetensors.", show_default=False)
    ],
    face: Annotated[
        int | None, typer.Option("--face", min=1, help="Which of several faces, from the left; else the largest.")
    ] = None,
    offline: Offline = False,
    json: Json = False,
) -> None:
    """Learn one signer from several videos: the shape of the face, and what brows, eyes and mouth are like at rest.

    `fyc asl run --signer` measures against it. In clips of a few seconds brows are measured much better so: from one
    clip alone, in which brows may be up most of the time, rest cannot be told. The file holds a picture of the face.
    """
    from rich.console import Console
    from rich.progress import Progress

    from fyc.asl.acquaintance import get_to_know
    from fyc.asl.corpus.tasks import find_tasks
    from fyc.asl.face.bundle import load_bundle
    from fyc.asl.signer import prepare_target
    from fyc.cli.runtime import print_json

    paths = [task.video for task in find_tasks(videos, output.parent / f".{output.name}")]
    bundle = load_bundle(offline=offline)
    prepare_target(output, bundle.mesh)  # before any work
    console = Console(stderr=True)
    with Progress(console=console, disable=not console.is_terminal) as bars:
        tasks: dict[Path, Any] = {}

        def tell(path: Path, done: int, total: int | None) -> None:
            if path not in tasks:
                tasks[path] = bars.add_task(path.name, total=total)
            bars.update(tasks[path], completed=done)

        number = None if face is None else face - 1
        known = get_to_know(paths, bundle, face=number, progress=tell)
    known.signer.save(output)
    if json:
        print_json({"signer": str(output), "faces": {str(path): faces for path, faces in known.faces.items()}})
        return
    for path, faces in known.faces.items():
        if not faces:
            typer.echo(f"no face is seen in {path}", err=True)
    typer.echo(f"{sum(known.faces.values())} faces of {len(paths)} videos; use it with: --signer {output}")
