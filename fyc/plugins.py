"""The plugin host: finds plugins through the entry-point group `fyc` and keeps what they register.

Built-in passes and model sources come through the same group. `FYC_DISABLE_PLUGINS=a,b` leaves out the entry
points named `a` and `b`; `FYC_DISABLE_PLUGINS=all` leaves out every plugin that is not part of fyc itself.
"""

from __future__ import annotations

import inspect
import os
import re
import traceback
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Any

import pluggy

from fyc import hookspecs
from fyc.errors import FycError, PluginError, is_disk_full, is_out_of_memory
from fyc.ui.events import Event, EventSink
from fyc.ui.text import did_you_mean

if TYPE_CHECKING:
    from torch import nn

    from fyc.models import ModelSource
    from fyc.passes import Pass

GROUP = "fyc"
DISABLE = "FYC_DISABLE_PLUGINS"
_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")


@dataclass(frozen=True)
class Plugin:
    """An installed plugin: its entry-point name, and the distribution and version that bring it."""

    name: str
    distribution: str
    version: str

    def __str__(self) -> str:
        return f"`{self.name}` of {self.distribution} {self.version}"


@dataclass(frozen=True)
class Broken:
    """A plugin that could not be imported, or could not import what it registers, and why."""

    name: str
    distribution: str
    reason: str


@dataclass(frozen=True)
class RegisteredPass:
    """A pass class with the plugin that registered it."""

    cls: type[Pass[Any]]
    distribution: str
    version: str
    plugin: str


@dataclass(frozen=True)
class PluginHost:
    """All that the installed plugins offer.

    Attributes:
        passes: pass name to pass.
        sources: model sources, highest `priority` first.
        plugins: the plugins that were loaded.
        broken: plugins that cannot be imported.
        disabled: plugins left out by `FYC_DISABLE_PLUGINS`.
        hook: pluggy's hooks; `call` and `notify` say which plugin failed.
    """

    passes: Mapping[str, RegisteredPass]
    sources: tuple[ModelSource, ...]
    plugins: tuple[Plugin, ...]
    broken: tuple[Broken, ...]
    disabled: tuple[Plugin, ...]
    hook: pluggy.HookRelay

    def pass_class(self, name: str, *, where: str = "") -> type[Pass[Any]]:
        """The pass class of this name.

        Args:
            name: what a recipe says after `use:`.
            where: file:line:column for the error.

        Raises:
            PluginError: FYC-P01 when there is no such pass; FYC-P02 when the plugin of this name is broken.
        """
        if name in self.passes:
            return self.passes[name].cls
        for plugin in self.broken:
            if plugin.name == name:
                raise PluginError(
                    "FYC-P02",
                    f"the plugin `{name}` of {plugin.distribution} cannot be imported",
                    where=where,
                    why=plugin.reason,
                    next="install what is missing, or repair or remove the distribution",
                )
        raise PluginError("FYC-P01", f"there is no pass `{name}`", where=where, next=self._advice(name))

    def trace_leaf(self, module: nn.Module) -> bool | None:
        """What the plugins say about keeping a module as one graph node (hook `fyc_trace_leaf`)."""
        answer: bool | None = self.call("fyc_trace_leaf", module=module)
        return answer

    def implementing(self, hook: str) -> list[Plugin]:
        """The plugins that implement a hook, by name."""
        names = {impl.plugin_name for impl in getattr(self.hook, hook).get_hookimpls()}
        return [plugin for plugin in self.plugins if plugin.name in names]

    def call(self, hook: str, **arguments: Any) -> Any:
        """Call a hook in all plugins that implement it.

        Returns:
            Their answers, or the first one that is not None if the hook is specified so.

        Raises:
            PluginError: FYC-P05 when a plugin raises.
            FycError: as it is; so is what the machine does to a plugin, no memory or a full disk.
        """
        caller: pluggy.HookCaller = getattr(self.hook, hook)
        try:
            return caller(**arguments)
        except (Exception, SystemExit) as error:
            if isinstance(error, FycError) or is_out_of_memory(error) or is_disk_full(error):
                raise
            raise self._failed(_raised_by(caller, error), hook, error) from error

    def named(self, hook: str, what: str, members: Iterable[str]) -> dict[str, Any]:
        """What the plugins register through a hook, by its `name`.

        Args:
            hook: name of the hook, whose only argument is `register`.
            what: what is registered, in words.
            members: attributes that everything registered must have.

        Raises:
            PluginError: FYC-P03 when two have one name, FYC-P04 when one lacks something, FYC-P05 when a plugin fails.
        """
        found: dict[str, Any] = {}

        def register(item: Any) -> None:
            missing = [member for member in members if not hasattr(item, member)]
            if missing:
                raise PluginError("FYC-P04", f"the {what} lacks {', '.join(missing)}", where=hook, why=repr(item))
            if item.name in found:
                both = " and ".join(_module_of(thing) for thing in (found[item.name], item))
                raise PluginError("FYC-P03", f"two plugins register the {what} `{item.name}`", where=both)
            found[item.name] = item

        self.call(hook, register=register)
        return found

    def notify(self, hook: str, events: EventSink, **arguments: Any) -> None:
        """Tell all plugins what has happened already: one that raises becomes a warning."""
        try:
            self.call(hook, **arguments)
        except Exception as error:
            message = f"{error.what}: {error.why}" if isinstance(error, FycError) else _reason(error)
            events(Event("warning", {"message": message, "where": hook}))

    def _failed(self, name: str, hook: str, error: BaseException) -> PluginError:
        plugin = next((str(plugin) for plugin in self.plugins if plugin.name == name), f"`{name}`")
        return PluginError(
            "FYC-P05",
            f"the plugin {plugin} failed in `{hook}`",
            why=_reason(error),
            next=f"repair the plugin, or switch it off: {DISABLE}={name}; --debug shows the traceback",
        )

    def _advice(self, name: str) -> str:
        if any(plugin.name == name for plugin in self.disabled):
            return f"it is switched off: take `{name}` (or `all`) out of {DISABLE}"
        advice = did_you_mean(name, self.passes)
        if self.broken:
            reasons = "; ".join(f"`{plugin.name}` ({plugin.reason})" for plugin in self.broken)
            advice += f". These plugins could not be imported and may bring it: {reasons}"
        return advice


def load_plugins() -> PluginHost:
    """Import every installed plugin that is not disabled, and let it register.

    A plugin that cannot be imported, or whose registering hooks cannot import what they need, becomes a `Broken`; it
    does not stop the others.

    Raises:
        PluginError: FYC-P03 when two plugins register one name; FYC-P04 when one breaks the hook contract.
    """
    manager = pluggy.PluginManager(GROUP)
    manager.add_hookspecs(hookspecs)
    enabled, disabled = _split_disabled(entry_points(group=GROUP))
    loaded: dict[str, Plugin] = {}
    broken: list[Broken] = []
    for entry in enabled:
        plugin = _plugin(entry)
        try:
            target = entry.load()
        except (Exception, SystemExit) as error:
            broken.append(Broken(plugin.name, plugin.distribution, _reason(error)))
            continue
        if plugin.name in loaded:
            raise _collision("plugin", plugin.name, loaded[plugin.name], plugin)
        _register(manager, target, plugin)
        loaded[plugin.name] = plugin
    passes: dict[str, RegisteredPass] = {}
    sources: dict[str, tuple[ModelSource, Plugin]] = {}
    for plugin in tuple(loaded.values()):
        others = [manager.get_plugin(name) for name in loaded if name != plugin.name]
        hooks = (manager.subset_hook_caller(f"fyc_register_{what}", others) for what in ("passes", "model_sources"))
        try:
            own_passes, own_sources = (_registered(hook, plugin) for hook in hooks)
        except (ImportError, SystemExit) as error:
            broken.append(Broken(plugin.name, plugin.distribution, _reason(error)))
            manager.unregister(name=plugin.name)
            del loaded[plugin.name]
            continue
        for cls in own_passes:
            _add_pass(passes, plugin, cls)
        for source in own_sources:
            _add_source(sources, plugin, source)
    return PluginHost(
        passes=dict(sorted(passes.items())),
        sources=tuple(s for s, _ in sorted(sources.values(), key=lambda pair: (-pair[0].priority, pair[0].name))),
        plugins=tuple(loaded.values()),
        broken=tuple(broken),
        disabled=disabled,
        hook=manager.hook,
    )


def _module_of(thing: object) -> str:
    return thing.__module__ if isinstance(thing, type) else type(thing).__module__


def installed_plugin_names() -> list[str]:
    """Entry-point names of the plugins that are installed and not disabled; imports none of them."""
    return [entry.name for entry in _split_disabled(entry_points(group=GROUP))[0]]


def unknown_disabled() -> list[str]:
    """Names in `FYC_DISABLE_PLUGINS` that no installed plugin has: most likely misspelt."""
    return sorted(_disabled_names() - {"all"} - {entry.name for entry in entry_points(group=GROUP)})


def _disabled_names() -> set[str]:
    return {name.strip() for name in os.environ.get(DISABLE, "").split(",")} - {""}


def _split_disabled(entries: Iterable[EntryPoint]) -> tuple[list[EntryPoint], tuple[Plugin, ...]]:
    names = _disabled_names()
    enabled: list[EntryPoint] = []
    disabled: list[Plugin] = []
    for entry in sorted(entries, key=lambda entry: (entry.name, _plugin(entry).distribution)):
        plugin = _plugin(entry)
        if entry.name in names or ("all" in names and plugin.distribution != "fyc"):
            disabled.append(plugin)
        else:
            enabled.append(entry)
    return enabled, tuple(disabled)


def _plugin(entry: EntryPoint) -> Plugin:
    distribution = entry.dist
    if distribution is None:
        return Plugin(entry.name, "an unknown distribution", "0")
    return Plugin(entry.name, distribution.name, distribution.version)


def _register(manager: pluggy.PluginManager, target: object, plugin: Plugin) -> None:
    """Register with pluggy; refuse what it would ignore: unknown hook names, functions without the mark."""
    try:
        manager.register(target, plugin.name)
    except (pluggy.PluginValidationError, ValueError) as error:
        raise _contract(plugin, f"{plugin} does not fit the hook specification", _reason(error)) from error
    specs = [name for name in vars(hookspecs) if name.startswith("fyc_")]
    for caller in manager.get_hookcallers(target) or []:
        if not caller.has_spec():
            raise _contract(
                plugin,
                f"{plugin} implements an unknown hook `{caller.name}`",
                did_you_mean(caller.name, specs),
            )
    marked = {caller.name for caller in manager.get_hookcallers(target) or []}
    for name in specs:
        function = inspect.getattr_static(target, name, None)
        own = getattr(function, "__module__", None) == getattr(target, "__name__", None)
        if inspect.isfunction(function) and own and name not in marked:
            raise _contract(plugin, f"{plugin} defines `{name}` without marking it", "put @fyc.hookimpl above it")


def _registered(caller: pluggy.HookCaller, plugin: Plugin) -> list[Any]:
    """What a plugin registers through one hook; an ImportError or SystemExit of it goes on."""
    found: list[Any] = []
    try:
        caller(register=found.append)
    except ImportError:
        raise
    except Exception as error:
        raise _contract(plugin, f"{plugin} failed in `{caller.name}`", _reason(error)) from error
    return found


def _raised_by(caller: pluggy.HookCaller, error: BaseException) -> str:
    """The name of the plugin in whose hook an exception was raised."""
    owners = {id(getattr(impl.function, "__code__", None)): impl.plugin_name for impl in caller.get_hookimpls()}
    codes = (id(frame.f_code) for frame, _ in traceback.walk_tb(error.__traceback__))
    return next((owners[code] for code in codes if code in owners), "?")


def _add_pass(passes: dict[str, RegisteredPass], plugin: Plugin, cls: type[Pass[Any]]) -> None:
    from fyc.passes import Pass, PassOptions

    if not (inspect.isclass(cls) and issubclass(cls, Pass)):
        raise _contract(plugin, f"{plugin} registers {cls!r} as a pass", "register a subclass of fyc.Pass")
    name = getattr(cls, "name", None)
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise _contract(
            plugin,
            f"{plugin}: the class {cls.__name__} has the pass name {name!r}",
            "a name is lower-case words joined by hyphens",
        )
    if not getattr(cls, "summary", ""):
        raise _contract(plugin, f"{plugin}: the pass `{name}` has no `summary`", "add the class attribute")
    if not (inspect.isclass(cls.Options) and issubclass(cls.Options, PassOptions)):
        raise _contract(plugin, f"{plugin}: `Options` of `{name}` is no fyc.PassOptions", "derive it from that")
    bare = [key for key, info in cls.Options.model_fields.items() if not info.description]
    if bare:
        raise _contract(
            plugin,
            f"{plugin}: options of `{name}` lack a description: {', '.join(bare)}",
            "put a docstring under each field",
        )
    if inspect.isabstract(cls):
        missing = ", ".join(sorted(cls.__abstractmethods__))
        raise _contract(plugin, f"{plugin}: the pass `{name}` does not define {missing}", "implement it")
    if name in passes:
        first = passes[name]
        raise _collision("pass", name, Plugin(first.plugin, first.distribution, first.version), plugin)
    passes[name] = RegisteredPass(cls, plugin.distribution, plugin.version, plugin.name)


def _add_source(sources: dict[str, tuple[ModelSource, Plugin]], plugin: Plugin, source: ModelSource) -> None:
    missing = [name for name in ("name", "priority", "accepts", "open") if not hasattr(source, name)]
    if missing:
        raise _contract(plugin, f"{plugin}: a model source lacks {', '.join(missing)}", "see fyc.models.ModelSource")
    if source.name in sources:
        raise _collision("model source", source.name, sources[source.name][1], plugin)
    sources[source.name] = (source, plugin)


def _contract(plugin: Plugin, what: str, advice: str) -> PluginError:
    return PluginError(
        "FYC-P04",
        what,
        where=plugin.distribution,
        why=advice,
        next=f"repair the plugin, or switch it off: {DISABLE}={plugin.name}",
    )


def _collision(kind: str, name: str, first: Plugin, second: Plugin) -> PluginError:
    advice = f"uninstall one of them, or switch one off: {DISABLE}={second.name}"
    if first.name == second.name:
        advice = "uninstall one of them"
    return PluginError(
        "FYC-P03",
        f"two plugins register the {kind} `{name}`: {first} and {second}",
        where=f"{first.distribution}, {second.distribution}",
        next=advice,
    )


def _reason(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"
