"""How plans, artifacts and comparisons look on stdout."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import typer

from fyc.ui.tables import cell_text, columns_that_fit, option_text, show_pairs, show_table
from fyc.ui.text import human_bytes


def show_plan(plan: Mapping[str, Any]) -> None:
    """Print what `RunPlan.to_json` says."""
    show_pairs(
        {
            "model": f"{plan['model']} ({plan['architecture']}, {plan['dtype']})",
            "output": plan["output"],
            "blocks": f"{plan['blocks']} ({plan['structures']} distinct)",
            "calibration": f"{plan['calibration_tokens']} tokens",
            "source size": human_bytes(plan["source_bytes"]),
            "size afterwards": f"about {human_bytes(plan['predicted_size_bytes'])}",
            "peak memory": f"about {human_bytes(plan['predicted_peak_memory_bytes'])}",
            "disk needed": f"at most {human_bytes(plan['disk_needed_bytes'])}",
        }
    )
    for number, entry in enumerate(plan["passes"]):
        typer.echo(f"\npass {number}: {entry['use']} ({entry['distribution']})")
        for name, value in entry["options"].items():
            typer.echo(f"  {name}: {option_text(value)}")
        modules = entry["modules"]
        typer.echo(f"  {len(modules)} modules: {', '.join(_brief(modules))}")
    for finding in plan["findings"]:
        where = f" ({finding['where']})" if finding["where"] else ""
        typer.echo(f"\n{finding['level']}: {finding['message']}{where}")


def show_artifact(artifact: Mapping[str, Any], *, modules: bool) -> None:
    """Print what `Artifact.inspect` says; `modules` adds a line for every module."""
    size, source = artifact["size_bytes"], artifact["source_bytes"]
    ratio = f" ({size / source:.2f} of it)" if source else ""
    show_pairs(
        {
            "artifact": artifact["path"],
            "model": f"{artifact['source']['name']} ({artifact['architecture']}, {artifact['dtype']})",
            "size": f"{human_bytes(source)} -> {human_bytes(size)}{ratio}",
            "passes": [f"{entry['name']} ({entry['distribution']})" for entry in artifact["passes"]],
            "modules": ", ".join(f"{count} {action}" for action, count in _actions(artifact["modules"])) or "none",
            **{name: f"{value:.6g}" for name, value in artifact["metrics"].items()},
        }
    )
    for entry in artifact["passes"]:
        for name, value in entry["metrics"].items():
            typer.echo(f"{entry['name']}: {name} = {value:.6g}")
        for note in entry["notes"]:
            typer.echo(f"{entry['name']}: {note}")
    if modules:
        for name in dict.fromkeys(module["by"] for module in artifact["modules"]):
            _show_modules(name, [module for module in artifact["modules"] if module["by"] == name])


def _show_modules(name: str, modules: Sequence[Mapping[str, Any]]) -> None:
    from fyc.artifact import ModuleEntry, figures

    shown = figures([ModuleEntry(**module) for module in modules])
    columns = ["path", "action", *shown.fields]
    rows = [[module[column] for column in columns] for module in modules]
    for key in shown.details:
        columns.append(key)
        for row, module in zip(rows, modules, strict=True):
            row.append(module["details"].get(key))
    fitting = columns_that_fit(columns, rows, least=2 + len(shown.fields))
    typer.echo("")
    show_table(columns[:fitting], [row[:fitting] for row in rows], title=name)
    if shown.common:
        common = ", ".join(f"{key} {cell_text(value)}" for key, value in shown.common.items())
        typer.echo(f"in every module: {common}")
    if fitting < len(columns):
        typer.echo(f"no room for: {', '.join(columns[fitting:])} (see report.md, or --json)")


def show_diff(diff: Mapping[str, Any]) -> None:
    """Print what `fyc.artifact.diff` says."""
    if diff["identical"]:
        typer.echo("the artifacts are identical")
        return
    show_pairs({"a": diff["a"], "b": diff["b"], "size": " -> ".join(map(human_bytes, diff["size_bytes"]))})
    for part in ("source", "passes", "metrics", "modules", "versions", "files"):
        rows = [(name, *map(_short, pair)) for name, pair in diff[part].items()]
        if rows:
            typer.echo("")
            show_table((part, "a", "b"), rows)


def _actions(modules: Sequence[Mapping[str, Any]]) -> list[tuple[str, int]]:
    return Counter(entry["action"] for entry in modules).most_common()


def _brief(paths: Sequence[str]) -> list[str]:
    return list(paths) if len(paths) <= 4 else [*paths[:2], "...", *paths[-2:]]


def _short(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {cell_text(item)}" for key, item in value.items() if item is not None)
    text = cell_text(value)
    return f"{text[:12]}..." if len(text) == 64 and text.isalnum() else text
