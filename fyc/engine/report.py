"""The `report.md` of an artifact: what was done, what it cost, how to use it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fyc.artifact import Manifest, ModuleEntry


def report_text(manifest: Manifest, folder: Path, picture: str | None) -> str:
    """Markdown for people; the same manifest gives the same text."""
    size = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
    source = manifest.source
    lines = [
        f"# {Path(source.name).name}, converted by fyc",
        "",
        f"- Source: `{source.name}` ({manifest.architecture}, {source.size_bytes / 1e6:.1f} MB of tensors,"
        f" sha256 `{source.digest[:16]}…`)",
        f"- Artifact: {size / 1e6:.1f} MB of tensors, {size / max(source.size_bytes, 1):.1%} of the source",
        f"- Passes: {', '.join(f'{entry.name} ({entry.distribution})' for entry in manifest.passes)}",
        "",
        "The model card and licence of the source apply to this artifact too; they are carried over if the source",
        "had them. Load it with `fyc.load(folder)`, or with transformers after `import fyc`. Without fyc,",
        "transformers refuses it.",
        "",
    ]
    if picture is not None:
        lines += [f"![output error and extra columns of every converted module]({picture})", ""]
    if manifest.metrics:
        lines += ["## Measured", "", "| metric | value |", "|---|---|"]
        lines += [f"| {name.replace('_', ' ')} | {value:.6g} |" for name, value in sorted(manifest.metrics.items())]
        lines.append("")
    for entry in manifest.passes:
        lines += [f"## {entry.name}", "", "| option | value |", "|---|---|"]
        lines += [f"| {name} | {value} |" for name, value in entry.options.items()]
        lines += ["", *(f"- {name.replace('_', ' ')}: {value:.6g}" for name, value in entry.metrics.items()), ""]
        lines += [f"- {note}" for note in entry.notes]
        lines += _table([module for module in manifest.modules if module.by == entry.name])
    return "\n".join(lines).rstrip() + "\n"


def _table(modules: Sequence[ModuleEntry]) -> list[str]:
    lines = ["", "| module | action | bits | extra columns | output error |", "|---|---|---|---|---|"]
    for module in modules:
        bits = "" if module.bits is None else f"{module.bits:g}"
        expansion = "" if module.expansion is None else f"{module.expansion:.2%}"
        error = "" if module.error is None else f"{module.error:.3g}"
        lines.append(f"| `{module.path}` | {module.action} | {bits} | {expansion} | {error} |")
    return [*lines, ""]
