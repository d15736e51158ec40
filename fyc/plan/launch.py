"""Launch artefacts: what starts a layout on a cluster, as a shell script, a Slurm job and the files of the backend."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from fyc.artifact.files import write_text
from fyc.errors import PlanError
from fyc.plan.job import Job
from fyc.plan.layout import Layout

_PLACE = re.compile(r"\{([A-Z][A-Z0-9_]*)\}")


@dataclass(frozen=True)
class Target:
    """What is to be launched: a layout of a job, and the Hugging Face configuration of its model."""

    job: Job
    layout: Layout
    config: Mapping[str, Any]


@dataclass(frozen=True)
class Program:
    """What torchrun starts on every GPU.

    Words may hold `{HERE}` (the folder of launch.sh), `{STEPS}` (optimizer steps to run) and the names in `variables`;
    everything else in a word reaches the program as it is, whatever characters it has.

    Attributes:
        command: the script, or `-m` and a module, and its arguments, one word each.
        data: the arguments that choose random data, which a user replaces by real data.
        files: texts by name, written beside launch.sh.
        environment: variables of every process.
        variables: names of variables that the user must set, each with what it is.
        install: what must be installed, in one line, with the version that was looked at.
    """

    command: tuple[str, ...]
    install: str
    data: tuple[str, ...] = ()
    files: Mapping[str, str] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    variables: Mapping[str, str] = field(default_factory=dict)


@runtime_checkable
class Launcher(Protocol):
    """Writes what a backend needs to run a layout. A plugin registers one with `fyc_register_launchers`.

    Attributes:
        name: what `--backend` calls it.
        stack: the software stack whose costs it has (`fyc.plan.stack`).
    """

    name: str
    stack: str

    def refusal(self, target: Target) -> str | None:
        """Why the backend cannot run this layout, or None if it can."""
        ...

    def program(self, target: Target) -> Program:
        """What runs the layout."""
        ...


def write_launch(launcher: Launcher, target: Target, folder: Path, summary: str = "") -> list[Path]:
    """Write launch.sh, launch.sbatch and what the backend wants beside them; the files that were there are replaced.

    Args:
        launcher: of the backend.
        target: what is launched.
        folder: where to.
        summary: one line for the head of launch.sh.

    Raises:
        PlanError: FYC-L14, the backend cannot run this layout.
        ResourceError: FYC-S01, the disk is full.
    """
    reason = launcher.refusal(target)
    if reason is not None:
        raise PlanError("FYC-L14", f"{launcher.name} cannot run the layout", where=str(target.layout), why=reason)
    program = launcher.program(target)
    texts = {**program.files, "launch.sh": _script(program, target, summary), "launch.sbatch": _batch(target)}
    for name, text in texts.items():
        write_text(folder / name, text)
    for name in ("launch.sh", "launch.sbatch"):
        (folder / name).chmod(0o755)
    return [folder / name for name in texts]


def _script(program: Program, target: Target, summary: str) -> str:
    cluster, known = target.job.cluster, {"HERE", "STEPS", *program.variables}
    lines = ["#!/usr/bin/env bash"]
    lines += [f"# {_comment(line)}" for line in (_title(target), summary, f"Needs {program.install}.") if line]
    lines += ["# Arguments given to this script go on to the program, behind its own."]
    lines += ["set -euo pipefail"]
    if any("{HERE}" in word for word in (*program.command, *program.data, *program.environment.values())):
        lines += ['HERE="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"']
    lines += [f': "${{{name}:?{_message(meaning)}}}"' for name, meaning in program.variables.items()]
    lines += [': "${STEPS:=1000}"  # optimizer steps to run']
    lines += [f"export {name}={_quote(value, known)}" for name, value in program.environment.items()]
    if program.data:
        words = " ".join(_quote(word, known) for word in program.data)
        lines += [f"DATA=({words})  # random tokens, to measure with; put your data here"]
    lines += _rendezvous(cluster.nodes, cluster.gpus_per_node)
    command = [_quote(word, known) for word in program.command]
    command += ['"${DATA[@]}"'] if program.data else []
    lines += ["  " + line + " \\" for line in _wrapped(command)]
    return "\n".join([*lines, '  "$@"', ""])


def _rendezvous(nodes: int, gpus: int) -> list[str]:
    """The call of torchrun: alone on one machine, by way of the first machine on several."""
    if nodes == 1:
        return [f"exec torchrun --standalone --nproc-per-node {gpus} \\"]
    return [
        "# Every machine runs this script with the same MASTER_ADDR, the name of one of them.",
        ': "${MASTER_ADDR:?name of the machine that the others connect to}"',
        ': "${MASTER_PORT:=29500}"',
        f"exec torchrun --nnodes {nodes} --nproc-per-node {gpus} \\",
        '  --rdzv-backend c10d --rdzv-endpoint "$MASTER_ADDR:$MASTER_PORT" --rdzv-id "${RUN_ID:-fyc}" \\',
    ]


def _batch(target: Target) -> str:
    cluster = target.job.cluster
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", target.job.model.name).strip("-.")[:40] or "train"
    return f"""#!/usr/bin/env bash
# {_comment(_title(target))}
# Submit it from its folder: sbatch launch.sbatch. Partition, account and --time are your site's.
#SBATCH --job-name={name}
#SBATCH --nodes={cluster.nodes}
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node={cluster.gpus_per_node}
#SBATCH --exclusive
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=slurm-%j.log
set -euo pipefail
if [ ! -f launch.sh ]; then
  echo "launch.sh is not here ($PWD): submit from the folder of the plan" >&2
  exit 2
fi
MASTER_ADDR="$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)"
MASTER_PORT=$((20000 + SLURM_JOB_ID % 20000))
RUN_ID="$SLURM_JOB_ID"
export MASTER_ADDR MASTER_PORT RUN_ID
srun --kill-on-bad-exit=1 bash launch.sh "$@"
"""


def _title(target: Target) -> str:
    job, cluster = target.job, target.job.cluster
    where = f"{cluster.nodes} x {cluster.gpus_per_node} {cluster.gpu.name}"
    return f"{job.model.name} on {where}, batch {job.global_batch} x {job.sequence} tokens: {target.layout}"


def _quote(word: str, known: set[str]) -> str:
    """A word as bash reads it back, with the known variables in it expanded."""
    parts, end = [], 0
    for match in _PLACE.finditer(word):
        if match[1] not in known:
            continue
        parts += [shlex.quote(word[end : match.start()])] if match.start() > end else []
        parts += [f'"${{{match[1]}}}"']
        end = match.end()
    parts += [shlex.quote(word[end:])] if end < len(word) or not word else []
    return "".join(parts)


def _wrapped(words: list[str], width: int = 100) -> list[str]:
    """Words in lines; an option stays with its value."""
    lines = [""]
    for index, word in enumerate(words):
        value = index > 0 and words[index - 1].startswith("-") and not word.startswith("-")
        if lines[-1] and not value and len(lines[-1]) + len(word) >= width:
            lines.append("")
        lines[-1] += (" " if lines[-1] else "") + word
    return lines


def _comment(text: str) -> str:
    return "".join(c if c.isprintable() else " " for c in text)


def _message(text: str) -> str:
    """A text that stands inside ${name:?...} between double quotes."""
    return re.sub(r'["$`\\{}]', "", _comment(text))
