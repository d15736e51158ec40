"""Launchers of `fyc plan` that come with fyc, one a backend."""

from collections.abc import Callable

from fyc import hookimpl
from fyc.plan.launch import Launcher


@hookimpl
def fyc_register_launchers(register: Callable[[Launcher], None]) -> None:
    """Register the launchers."""
    from fyc_plugins.launchers.deepspeed import DeepSpeedLauncher
    from fyc_plugins.launchers.fsdp2 import Fsdp2Launcher
    from fyc_plugins.launchers.megatron import MegatronLauncher
    from fyc_plugins.launchers.torchtitan import TorchtitanLauncher

    for launcher in (Fsdp2Launcher(), MegatronLauncher(), TorchtitanLauncher(), DeepSpeedLauncher()):
        register(launcher)
