"""`fyc eval` and `fyc generate`: what a model or an artifact is worth, and what it says."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Annotated, Any

import typer

from fyc.cli.options import Device, Json, ModelArgument, Offline, Progress, Revision, Threads
from fyc.ui.events import Event, EventSink
from fyc.ui.text import human_bytes


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    app.command("eval")(evaluate)
    app.command("generate")(generate)


def evaluate(
    model: ModelArgument,
    text: Annotated[str, typer.Option("--text", metavar="FILE", help="UTF-8 text, or asset:NAME.")],
    against: Annotated[
        str | None, typer.Option("--against", metavar="MODEL", help="A reference, run on the same tokens.")
    ] = None,
    length: Annotated[int, typer.Option("--length", min=2, help="Tokens in a window; windows do not overlap.")] = 512,
    max_tokens: Annotated[
        int | None, typer.Option("--max-tokens", min=1, help="Predict at most so many tokens, at least one window.")
    ] = None,
    json: Json = False,
    progress: Progress = "auto",
    device: Device = "cpu",
    threads: Threads = None,
    revision: Revision = None,
    offline: Offline = False,
) -> None:
    """Measure perplexity on a text.

    \b
    fyc eval out --text book.txt --against ./smollm2

    With --against, both models predict the same tokens, and the difference comes with a 95 % interval.
    """
    from fyc.cli.runtime import print_json, set_up

    set_up(threads=threads, offline=offline)
    from fyc.evaluation import evaluate as measure
    from fyc.ui.progress import progress as renderer

    with renderer(progress) as show:
        result = measure(
            model,
            text,
            against=against,
            length=length,
            max_tokens=max_tokens,
            device=device,
            revision=revision,
            offline=offline,
            progress=_windows(show),
        )
    content = result.to_json()
    if json:
        print_json(content)
    else:
        _show(content)


def generate(
    model: ModelArgument,
    prompt: Annotated[str, typer.Option("--prompt", help="The text to continue, or the message with --chat.")],
    max_new_tokens: Annotated[int, typer.Option("--max-new-tokens", min=1, help="Stop after so many tokens.")] = 128,
    chat: Annotated[bool, typer.Option("--chat", help="Put the prompt into the model's chat template.")] = False,
    temperature: Annotated[
        float, typer.Option("--temperature", min=0.0, help="0: always the most likely token; above: draw.")
    ] = 0.0,
    seed: Annotated[int, typer.Option("--seed", help="Seed of the drawing.")] = 0,
    stats: Annotated[bool, typer.Option("--stats", help="Say tokens a second and peak memory on stderr.")] = False,
    json: Json = False,
    device: Device = "cpu",
    threads: Threads = None,
    revision: Revision = None,
    offline: Offline = False,
) -> None:
    """Continue a prompt; the text appears as it is generated.

    \b
    fyc generate out --prompt "The capital of France is" --stats
    """
    from fyc.cli.runtime import print_json, set_up

    set_up(threads=threads, offline=offline)
    from fyc.generation import generate as start

    generation = start(
        model,
        prompt,
        max_new_tokens=max_new_tokens,
        chat=chat,
        temperature=temperature,
        seed=seed,
        device=device,
        revision=revision,
        offline=offline,
    )
    if json:
        print_json({"prompt": prompt, "text": "".join(generation), "stats": generation.stats.to_json()})
        return
    for piece in generation:
        typer.echo(piece, nl=False)
    typer.echo()
    if stats:
        measured = generation.stats
        typer.echo(
            f"prompt: {measured.prompt_tokens} tokens, {measured.prefill_tokens_per_second:.1f} tokens/s; "
            f"new: {measured.new_tokens} tokens, {measured.decode_tokens_per_second:.1f} tokens/s; "
            f"peak memory {human_bytes(measured.peak_memory_bytes)}",
            err=True,
        )


def _windows(show: EventSink) -> Callable[[str, int, int], None]:
    """Turns "windows done" into the events that `fyc convert` uses for blocks."""
    started = {"": 0.0}

    def report(name: str, done: int, total: int) -> None:
        from fyc.models import peak_memory_bytes

        now = time.monotonic()
        if name not in started:
            started[name] = now
            show(Event("sweep", {"pass": name, "phase": "evaluate", "blocks": total, "unit": "windows"}))
        data = {"pass": name, "phase": "evaluate", "index": done - 1, "total": total, "path": "windows"}
        # The clock starts when the first window is done: before the second one, nothing is measured.
        seconds = (now - started[name]) / (done - 1) if done > 1 else None
        left = None if seconds is None else seconds * (total - done)
        data |= {"seconds": seconds, "eta_seconds": left, "peak_memory_bytes": peak_memory_bytes()}
        show(Event("block", data))

    return report


def _show(content: dict[str, Any]) -> None:
    from fyc.ui.tables import show_pairs

    pairs = {
        "model": content["model"],
        "text": f"{content['text']} ({content['tokens']} tokens, {content['windows']} windows of {content['length']}, "
        f"stride {content['stride']})",
        "perplexity": _with_interval(content["perplexity"], content["interval"]),
    }
    if content["reference"] is not None:
        pairs |= {
            "against": content["reference"],
            "its perplexity": f"{content['reference_perplexity']:.4f}",
            "ratio": _with_interval(content["ratio"], content["ratio_interval"]),
            "difference": _with_interval(content["difference"], content["difference_interval"]) + " nats a token",
        }
    show_pairs(pairs)


def _with_interval(value: float, interval: list[float] | None) -> str:
    if interval is None:
        return f"{value:.4f}"
    return f"{value:.4f} (95 %: {interval[0]:.4f} to {interval[1]:.4f})"
