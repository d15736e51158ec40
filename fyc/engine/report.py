"""The `report.md` of an artifact: what was done, what it cost, how to use it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fyc.artifact import Manifest, ModuleEntry, figures
from fyc.ui.text import human_bytes


def report_text(manifest: Manifest, folder: Path, picture: str | None) -> str:
    """Markdown for people; the same manifest gives the same text."""
    size = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
    source = manifest.source
    lines = [
        f"# {Path(source.name).name}, converted by fyc",
        "",
        f"- Source: `{source.name}` ({manifest.architecture}, {human_bytes(source.size_bytes)} of tensors,"
        f" sha256 `{source.digest[:16]}…`)",
        f"- Artifact: {human_bytes(size)} of tensors, {size / max(source.size_bytes, 1):.1%} of the source",
        f"- Passes: {', '.join(f'{entry.name} ({entry.distribution})' for entry in manifest.passes)}",
        "",
        "The model card and licence of the source apply to this artifact too; they are carried over if the source",
        "had them. Load it with `fyc.load(folder)`, or with transformers after `import fyc`. Without fyc,",
        "transformers refuses it.",
        "",
    ]
    if picture is not None:
        also = " and extra columns" if any(module.expansion is not None for module in manifest.modules) else ""
        lines += [f"![output error{also} of every converted module]({picture})", ""]
    if manifest.metrics:
        lines += ["## Measured", "", "| metric | value |", "|---|---|"]
        lines += [f"| {name.replace('_', ' ')} | {value:.6g} |" for name, value in sorted(manifest.metrics.items())]
        lines.append("")
    for entry in manifest.passes:
        lines += [f"## {entry.name}"]
        if entry.options:
            lines += ["", "| option | value |", "|---|---|"]
            lines += [f"| {name} | {value} |" for name, value in entry.options.items()]
        told = [*(f"{_words(name)}: {value:.6g}" for name, value in entry.metrics.items()), *entry.notes]
        lines += [] if not told else ["", *(f"- {line}" for line in told)]
        lines += _table([module for module in manifest.modules if module.by == entry.name])
    return "\n".join(lines).rstrip() + "\n"


_HEADS = {"bits": "bits", "expansion": "expansion", "error": "output error"}
_FORMATS = {"bits": "g", "expansion": ".2%", "error": ".3g"}


def _table(modules: Sequence[ModuleEntry]) -> list[str]:
    if not modules:
        return [""]
    shown = figures(modules)
    heads = ["module", "action", *(_HEADS[key] for key in shown.fields), *map(_words, shown.details)]
    lines = ["", _row(heads), "|---" * len(heads) + "|"]
    for module in modules:
        fields = ["" if (v := getattr(module, key)) is None else format(v, _FORMATS[key]) for key in shown.fields]
        details = [_text(module.details.get(key)) for key in shown.details]
        lines.append(_row([f"`{module.path}`", module.action, *fields, *details]))
    if shown.common:
        common = ", ".join(f"{_words(key)} {_text(value)}" for key, value in shown.common.items())
        lines += ["", f"In every module: {common}."]
    return [*lines, ""]


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _words(key: str) -> str:
    return key.replace("_", " ")


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return "" if value is None else str(value).replace("|", "\\|")
