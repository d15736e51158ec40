"""The plugin host with real distributions on `sys.path`."""

from __future__ import annotations

import pytest

import fyc
from fyc.errors import PluginError
from fyc.plugins import installed_plugin_names, load_plugins, unknown_disabled

PASS = """
    import fyc

    class {cls}(fyc.Pass):
        name = "{name}"
        summary = "does nothing"

        def targets(self, model):
            return {{}}

        def run(self, block, ctx):
            return fyc.PassResult()

    @fyc.hookimpl
    def fyc_register_passes(register):
        register({cls})
"""


def a_pass(name: str, cls: str = "Nothing") -> str:
    return PASS.format(name=name, cls=cls)


def fails(code: str) -> PluginError:
    with pytest.raises(PluginError) as caught:
        load_plugins()
    assert caught.value.code == code
    return caught.value


def test_a_plugin_registers_its_pass_and_is_known_with_its_distribution(install):
    install("fyc-nothing", {"nothing": a_pass("nothing")}, version="2.5")
    registered = load_plugins().passes["nothing"]
    assert issubclass(registered.cls, fyc.Pass)
    assert (registered.distribution, registered.version, registered.plugin) == ("fyc-nothing", "2.5", "nothing")


def test_built_in_plugins_come_through_the_same_group():
    host = load_plugins()
    assert not [plugin for plugin in host.broken if plugin.distribution == "fyc"]
    assert {plugin.distribution for plugin in host.plugins} == {"fyc"}
    assert host.passes["flatten-quant"].distribution == "fyc"
    assert {"folder", "gguf", "hub"} <= {source.name for source in host.sources}
    priorities = [source.priority for source in host.sources]
    assert priorities == sorted(priorities, reverse=True)


def test_a_plugin_that_cannot_be_imported_is_listed_and_fails_only_its_own_pass(install):
    install("fyc-broken", {"broken-one": "import a_module_that_is_not_there"})
    install("fyc-nothing", {"nothing": a_pass("nothing")})
    host = load_plugins()
    (broken,) = host.broken
    assert (broken.name, broken.distribution) == ("broken-one", "fyc-broken")
    assert "a_module_that_is_not_there" in broken.reason
    assert host.pass_class("nothing").name == "nothing"
    with pytest.raises(PluginError) as caught:
        host.pass_class("broken-one", where="r.yaml:3:4")
    error = caught.value
    assert error.code == "FYC-P02"
    assert error.where == "r.yaml:3:4"
    assert "a_module_that_is_not_there" in error.why


@pytest.mark.parametrize("source", ["raise SystemExit(3)", "def broken(:", "1 / 0"])
def test_whatever_an_import_raises_is_kept_as_the_reason(install, source):
    install("fyc-broken", {"broken": source})
    assert [plugin.name for plugin in load_plugins().broken] == ["broken"]


@pytest.mark.parametrize("line", ["import a_module_that_is_not_there", "raise SystemExit(3)"])
def test_a_plugin_that_cannot_import_what_it_registers_is_broken_and_brings_nothing(install, line):
    source = a_pass("late") + f"        {line}\n\n    @fyc.hookimpl\n    def fyc_trace_leaf(module): return True\n"
    install("fyc-late", {"late": source})
    install("fyc-nothing", {"nothing": a_pass("nothing")})
    host = load_plugins()
    assert [(plugin.name, plugin.distribution) for plugin in host.broken] == [("late", "fyc-late")]
    assert "late" not in {plugin.name for plugin in host.plugins}
    assert "nothing" in host.passes
    assert host.trace_leaf(module=None) is None
    with pytest.raises(PluginError, match="FYC-P02"):
        host.pass_class("late")


def test_an_unknown_pass_gets_the_closest_name_and_the_broken_plugins(install):
    install("fyc-nothing", {"nothing": a_pass("nothing")})
    install("fyc-broken", {"other": "import a_module_that_is_not_there"})
    with pytest.raises(PluginError) as caught:
        load_plugins().pass_class("nothin")
    assert caught.value.code == "FYC-P01"
    assert "did you mean `nothing`?" in caught.value.next
    assert "`other`" in caught.value.next


def test_disabled_plugins_are_not_imported(install, monkeypatch):
    install("fyc-nothing", {"nothing": a_pass("nothing"), "loud": "raise RuntimeError('imported')"})
    monkeypatch.setenv("FYC_DISABLE_PLUGINS", "nothing, loud, mispelt")
    host = load_plugins()
    assert "nothing" not in host.passes
    assert not host.broken
    assert [plugin.name for plugin in host.disabled] == ["loud", "nothing"]
    assert unknown_disabled() == ["mispelt"]
    with pytest.raises(PluginError) as caught:
        host.pass_class("nothing")
    assert "FYC_DISABLE_PLUGINS" in caught.value.next


def test_disabling_all_leaves_what_fyc_brings(install, monkeypatch):
    install("fyc-nothing", {"nothing": a_pass("nothing")})
    monkeypatch.setenv("FYC_DISABLE_PLUGINS", "all")
    host = load_plugins()
    assert {plugin.distribution for plugin in host.plugins} == {"fyc"}
    assert [plugin.name for plugin in host.disabled] == ["nothing"]


def test_names_are_listed_without_importing(install):
    install("fyc-loud", {"loud": "raise RuntimeError('imported')"})
    assert "loud" in installed_plugin_names()


def test_two_passes_of_one_name_name_both_distributions(install):
    install("fyc-first", {"first": a_pass("same")})
    install("fyc-second", {"second": a_pass("same")})
    error = fails("FYC-P03")
    assert "fyc-first" in error.what
    assert "fyc-second" in error.what
    assert "FYC_DISABLE_PLUGINS=second" in error.next


def test_two_entry_points_of_one_name_name_both_distributions(install):
    install("fyc-first", {"same": a_pass("one")})
    install("fyc-second", {"same": a_pass("two")})
    error = fails("FYC-P03")
    assert "fyc-first" in error.what
    assert "fyc-second" in error.what


def test_two_sources_of_one_name_are_refused(install):
    install(
        "fyc-source",
        {
            "source": """
                import fyc

                class Source:
                    name = "folder"
                    priority = 5

                    def accepts(self, source):
                        return False

                    def open(self, source, *, revision, offline):
                        raise OSError

                @fyc.hookimpl
                def fyc_register_model_sources(register):
                    register(Source())
            """
        },
    )
    assert "`folder`" in fails("FYC-P03").what


def test_a_misspelt_hook_is_an_error_with_the_right_name(install):
    install("fyc-typo", {"typo": "import fyc\n@fyc.hookimpl\ndef fyc_register_pases(register): ..."})
    error = fails("FYC-P04")
    assert "fyc_register_pases" in error.what
    assert "fyc_register_passes" in error.why
    assert "FYC_DISABLE_PLUGINS=typo" in error.next


def test_a_hook_with_an_unknown_argument_is_an_error(install):
    install("fyc-argument", {"argument": "import fyc\n@fyc.hookimpl\ndef fyc_register_passes(registry): ..."})
    assert "registry" in fails("FYC-P04").why


def test_a_hook_without_its_mark_is_an_error(install):
    install("fyc-unmarked", {"unmarked": "def fyc_register_passes(register): ..."})
    assert "@fyc.hookimpl" in fails("FYC-P04").why


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (('name = "nothing"', 'name = "Not A Name"'), "Not A Name"),
        (('summary = "does nothing"', ""), "summary"),
        (("def run(self, block, ctx):", "def walk(self, block, ctx):"), "run"),
        (("register(Nothing)", "register(int)"), "int"),
        (("register(Nothing)", "register(undefined)"), "NameError"),
        (
            ('name = "nothing"', 'name = "nothing"\n        class Options(fyc.PassOptions):\n            x: int = 1'),
            "description",
        ),
    ],
    ids=["name", "summary", "abstract", "no pass", "raises", "undescribed option"],
)
def test_a_pass_that_does_not_keep_the_contract_is_refused(install, change, expected):
    source = a_pass("nothing")
    assert change[0] in source
    install("fyc-bad", {"bad": source.replace(*change)})
    error = fails("FYC-P04")
    assert expected in error.what + error.why


def test_hooks_are_called_in_every_plugin(install):
    for name in ("one", "two"):
        install(f"fyc-{name}", {name: f"import fyc\n@fyc.hookimpl\ndef fyc_trace_leaf(module): return {name == 'two'}"})
    assert load_plugins().trace_leaf(module=None) is True


@pytest.mark.parametrize("raised", ["ValueError('no')", "SystemExit(3)"])
def test_a_hook_that_raises_names_its_plugin(install, raised):
    for name in ("one", "two"):
        body = f"raise {raised}" if name == "two" else "return None"
        install(f"fyc-{name}", {name: f"import fyc\n@fyc.hookimpl\ndef fyc_trace_leaf(module): {body}"}, version="2.5")
    with pytest.raises(PluginError) as caught:
        load_plugins().trace_leaf(module=None)
    error = caught.value
    assert error.code == "FYC-P05"
    assert "`two` of fyc-two 2.5 failed in `fyc_trace_leaf`" in error.what
    assert raised.partition("(")[0] in error.why
    assert "FYC_DISABLE_PLUGINS=two" in error.next


def test_what_the_machine_does_to_a_hook_is_not_the_plugins_fault(install):
    install("fyc-hungry", {"hungry": "import fyc\n@fyc.hookimpl\ndef fyc_trace_leaf(module): raise MemoryError"})
    with pytest.raises(MemoryError):
        load_plugins().trace_leaf(module=None)


def test_a_plugin_that_is_only_told_cannot_stop_anything(install):
    source = "import fyc\n@fyc.hookimpl\ndef fyc_artifact_written(artifact): raise ValueError('no')"
    install("fyc-loud", {"loud": source})
    events = []
    load_plugins().notify("fyc_artifact_written", events.append, artifact=None)
    (event,) = events
    assert event.kind == "warning"
    assert "`loud` of fyc-loud 1.0 failed" in event.data["message"]
    assert "ValueError: no" in event.data["message"]
