"""What plugins bring to `fyc plan`, by name."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

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
    return _named(host, "fyc_register_executors", "executor", ("name", "candidates", "run"))


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
    return _named(host, "fyc_register_launchers", "launcher", ("name", "stack", "refusal", "program"))


def _named(host: PluginHost, hook: str, what: str, members: Iterable[str]) -> dict[str, Any]:
    """What the plugins register through a hook, by name."""
    found: dict[str, Any] = {}

    def register(item: Any) -> None:
        missing = [member for member in members if not hasattr(item, member)]
        if missing:
            raise PluginError("FYC-P04", f"the {what} lacks {', '.join(missing)}", where=hook, why=repr(item))
        if item.name in found:
            both = f"{type(found[item.name]).__module__} and {type(item).__module__}"
            raise PluginError("FYC-P03", f"two plugins register the {what} `{item.name}`", where=both)
        found[item.name] = item

    host.call(hook, register=register)
    return found
