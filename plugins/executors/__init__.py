"""Executors of `fyc plan` that come with fyc."""

from collections.abc import Callable

from fyc import hookimpl
from fyc.plan.executor import Executor


@hookimpl
def fyc_register_executors(register: Callable[[Executor], None]) -> None:
    """Register the executors."""
    from fyc_plugins.executors.local import LocalExecutor
    from fyc_plugins.executors.simulate import ModelExecutor
    from fyc_plugins.executors.slurm import SlurmExecutor

    register(ModelExecutor())
    register(LocalExecutor())
    register(SlurmExecutor())
