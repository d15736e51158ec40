"""What plugins bring to `fyc plan`, by name."""

from __future__ import annotations

from fyc.errors import PluginError
from fyc.plan.executor import Executor
from fyc.plan.launch import Launcher
from fyc.plugins import PluginHost
from fyc.ui.text import did_you_mean


def executors(host: PluginHost) -> dict[str, Executor]:
    """The executors of all plugins.

    Raises:
        PluginError: FYC-P03 when two have one name, FYC-P04 when one lacks something, FYC-P05 when a plugin fails.
    """
    return host.named("fyc_register_executors", "executor", ("name", "candidates", "run"))


def executor(host: PluginHost, name: str) -> Executor:
    """The executor of this name.

    Raises:
        PluginError: FYC-P01 when there is none.
    """
    known = executors(host)
    if name not in known:
        raise PluginError("FYC-P01", f"there is no executor `{name}`", next=did_you_mean(name, known))
    return known[name]


def launchers(host: PluginHost) -> dict[str, Launcher]:
    """The launchers of all plugins.

    Raises:
        PluginError: FYC-P03 when two have one name, FYC-P04 when one lacks something, FYC-P05 when a plugin fails.
    """
    return host.named("fyc_register_launchers", "launcher", ("name", "stack", "refusal", "program"))
