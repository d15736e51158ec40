"""Graph files from strangers: either a graph that can do no harm, or a refusal; never anything else."""

from __future__ import annotations

import ast
import copy
import json
import math
from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tiny_models import ALL, build
from torch import nn

from fyc.errors import ArtifactError, FycError
from fyc.ir import BlockGraph, bind, trace_model
from fyc.ir.allowlist import ATTRIBUTES, FUNCTIONS, METHODS, ROTARY, function_name
from fyc.ir.bind import forward_of
from fyc.ir.new_graph import new_graph
from fyc.ir.serialize import from_json, to_json

LLAMA = next(arch for arch in ALL if arch.name == "llama")
Json = dict[str, Any]


@cache
def _valid() -> str:
    return json.dumps(trace_model(build(LLAMA)).blocks["model.layers.0"].to_json())


def valid() -> Json:
    data: Json = json.loads(_valid())
    return data


def node(data: Json, name: str) -> Json:
    found: Json = next(n for n in data["nodes"] if n["name"] == name)
    return found


def change(name: str, /, **fields: Any) -> Callable[[Json], None]:
    return lambda data: node(data, name).update(fields)


def deep(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = {"tuple": [value]}
    return value


HOSTILE: dict[str, Callable[[Json], Any]] = {
    "os.system": change("mul", target="os:system"),
    "builtins.eval": change("mul", target="builtins:eval"),
    "builtins.__import__": change("mul", target="builtins:__import__"),
    "subprocess": change("mul", target="subprocess:run"),
    "torch.load": change("mul", target="torch:load"),
    "torch.hub": change("mul", target="torch.hub:load"),
    "operator.methodcaller": change("mul", target="operator:methodcaller"),
    "operator.attrgetter": change("mul", target="operator:attrgetter"),
    "own function": change("mul", target="fyc.ir.ops:eager_attention"),
    "private op": change("mul", target="fyc.ir.ops:_capture_weights"),
    "rotary of another package": change("apply_rotary_pos_emb", target="evil.models.x.modeling_x:apply_rotary_pos_emb"),
    "rotary with a dot": change("apply_rotary_pos_emb", target="transformers.models.llama.modeling_llama:os.system"),
    "rotary with a path": change(
        "apply_rotary_pos_emb", target="transformers.models.../modeling_a:apply_rotary_pos_emb"
    ),
    "rotary that does not exist": change(
        "apply_rotary_pos_emb", target="transformers.models.llama.modeling_nothing:apply_rotary_pos_emb"
    ),
    "another function of a modeling file": change(
        "apply_rotary_pos_emb", target="transformers.models.llama.modeling_llama:eager_attention_forward"
    ),
    "target is a list": change("mul", target=["torch", "mul"]),
    "target is None": change("mul", target=None),
    "long target": change("mul", target="a" * 5000),
    "getattr of __class__": change("getattr_1", args=[{"node": "input_layernorm"}, "__class__"]),
    "getattr of grad_fn": change("getattr_1", args=[{"node": "input_layernorm"}, "grad_fn"]),
    "getattr of a node": change("getattr_1", args=[{"node": "input_layernorm"}, {"node": "input_layernorm"}]),
    "getattr of a list": change("getattr_1", args=[{"node": "input_layernorm"}, {"list": []}]),
    "getattr with a default": change("getattr_1", args=[{"node": "input_layernorm"}, "shape", 1]),
    "method register_hook": change("view", target="register_hook"),
    "method apply_": change("view", target="apply_"),
    "method __reduce_ex__": change("view", target="__reduce_ex__"),
    "method format": change("view", target="format"),
    "method numpy": change("view", target="numpy"),
    "method share_memory_": change("view", target="share_memory_"),
    "method on nothing": change("view", args=[]),
    "attribute with dunder": change("self_attn", target="self_attn.__class__.__init__"),
    "attribute with brackets": change("self_attn", target="self_attn[0]"),
    "attribute with a call": change("self_attn", target="self_attn()"),
    "attribute with a newline": change("self_attn", target="self_attn\nimport os"),
    "attribute with a keyword": change("self_attn", target="self_attn.import"),
    "attribute with arguments": change("self_attn", args=[1]),
    "module with a quote": change("self_attn_q_proj", target="x').y('"),
    "module that is the block": change("self_attn_q_proj", target="fyc_self"),
    "empty module": change("self_attn_q_proj", target=""),
    "name with code": change("mul", name="x; import os"),
    "name is self": change("mul", name="self"),
    "name is a keyword": change("mul", name="lambda"),
    "name is a dunder": change("mul", name="__import__"),
    "name is a builtin": change("mul", name="print"),
    "name is not ASCII": change("mul", name="m\u00fcl"),
    "name twice": change("mul", name="add"),
    "name is a number": change("mul", name=7),
    "argument name with code": change("mul", kwargs={"x=1); import os; f(y": 1}),
    "argument name is a keyword": change("mul", kwargs={"lambda": 1}),
    "input with code": change("hidden_states", target="x=__import__('os')"),
    "input named self": change("hidden_states", target="self"),
    "input twice": change("attention_mask", target="hidden_states"),
    "input with a tuple as default": change("attention_mask", args=[{"tuple": []}]),
    "input without a default after one with": change("position_ids", args=[]),
    "input with two defaults": change("attention_mask", args=[1, 2]),
    "unnamed arguments with code": change("kwargs", target="**k, x=1"),
    "unnamed positional arguments": change("kwargs", target="*args"),
    "node that comes later": change("mul", args=[{"node": "add_1"}, 1]),
    "node that is itself": change("mul", args=[{"node": "mul"}, 1]),
    "unknown node": change("mul", args=[{"node": "nothing"}, 1]),
    "large integer": change("mul", args=[2**63, 1]),
    "infinity as a number": change("mul", args=[math.inf, 1]),
    "unknown float": change("mul", args=[{"float": "1e999"}]),
    "long string": change("mul", args=["x" * 5000]),
    "unprintable string": change("mul", args=["\x00"]),
    "deep argument": change("mul", args=[deep(40)]),
    "very deep argument": change("mul", args=[deep(200)]),
    "long list": change("mul", args=[{"list": [1] * 5000}]),
    "bare list": change("mul", args=[[1]]),
    "bare dict": change("mul", args=[{"a": 1, "b": 2}]),
    "unknown kind": change("mul", args=[{"pickle": "gASVAAAA"}]),
    "unknown dtype": change("mul", args=[{"dtype": "load"}]),
    "unknown device": change("mul", args=[{"device": "cpu; import os"}]),
    "impossible device": change("mul", args=[{"device": "cuda:999"}]),
    "unknown format": change("mul", args=[{"format": "torch.load"}]),
    "addition of one": change("add", args=[{"node": "hidden_states"}]),
    "slice of four": change("mul", args=[{"slice": [1, 2, 3, 4]}]),
    "dict with code": change("mul", args=[{"dict": [["a': __import__('os'), 'b", 1]]}]),
    "dict of triples": change("mul", args=[{"dict": [["a", 1, 2]]}]),
    "false ellipsis": change("mul", args=[{"ellipsis": False}]),
    "unknown operation": change("mul", op="exec"),
    "operation is a list": change("mul", op=["call_function"]),
    "args is a dict": change("mul", args={}),
    "kwargs is a list": change("mul", kwargs=[]),
    "extra key": change("mul", type="os"),
    "missing key": lambda data: node(data, "mul").pop("args"),
    "node is a string": lambda data: data["nodes"].insert(0, "x"),
    "no nodes": lambda data: data.update(nodes=[]),
    "nodes is a dict": lambda data: data.update(nodes={}),
    "too many nodes": lambda data: data.update(nodes=data["nodes"] * 500),
    "output missing": lambda data: data["nodes"].pop(),
    "output twice": lambda data: data["nodes"].append(copy.deepcopy(data["nodes"][-1])),
    "output of nothing": change("output", args=[]),
    "input after a call": lambda data: data["nodes"].insert(-1, {**data["nodes"][0], "name": "late", "target": "late"}),
    "unknown version": lambda data: data.update(version=2),
    "version is True": lambda data: data.update(version=True),
    "no signature": lambda data: data.pop("signature"),
    "unknown key": lambda data: data.update(code="import os"),
    "digest is no hash": lambda data: data["signature"].update(digest="../../etc/passwd"),
    "source is a list": lambda data: data["signature"].update(source=["os"]),
    "opaque with nodes": lambda data: data["signature"].update(opaque=True),
    "opaque is a string": lambda data: data["signature"].update(opaque="yes"),
}


@pytest.mark.parametrize("change_it", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_files_are_refused(change_it: Callable[[Json], Any]) -> None:
    data = valid()
    change_it(data)
    assert repr(data) != repr(valid())
    with pytest.raises(ArtifactError) as raised:
        BlockGraph.from_json(data)
    assert raised.value.code == "FYC-A07"
    assert raised.value.why


@pytest.mark.parametrize("data", [None, [], "x", 1, {"nodes": []}, {"version": 1, "signature": {}, "nodes": []}])
def test_what_is_no_graph_is_refused(data: Any) -> None:
    with pytest.raises(ArtifactError):
        BlockGraph.from_json(data)


class Trap(nn.Module):
    """A module whose plain attributes must be out of reach of a graph."""

    def __init__(self) -> None:
        super().__init__()
        self.config = type("Config", (), {"save": lambda *_: pytest.fail("a graph called a function of the config")})()

    def save(self, *_: Any) -> None:
        pytest.fail("a graph called a method of a module")


@pytest.mark.parametrize("op", ["call_module", "get_attr"])
@pytest.mark.parametrize("target", ["save", "config", "config.save", "forward", "training", "nothing"])
def test_a_graph_reaches_modules_and_tensors_only(op: str, target: str) -> None:
    nodes = [
        {"op": "placeholder", "name": "x", "target": "x", "args": [], "kwargs": {}},
        {"op": op, "name": "y", "target": target, "args": [{"node": "x"}] if op == "call_module" else [], "kwargs": {}},
        {"op": "output", "name": "output", "target": "output", "args": [{"node": "y"}], "kwargs": {}},
    ]
    graph = BlockGraph(from_json(nodes))
    module = Trap()
    for use in (lambda: bind(module, graph), lambda: graph.lint(module), lambda: graph.run(module, (torch.ones(1),))):
        with pytest.raises((FycError, AttributeError)):
            use()


def test_graphs_that_cannot_be_read_back_are_not_written() -> None:
    graph = new_graph()
    x = graph.placeholder("x")
    graph.output(graph.call_function(torch.save, (x,)))
    with pytest.raises(ArtifactError, match="not on the list") as raised:
        to_json(graph)
    assert raised.value.code == "FYC-A07"


ARGUMENTS = [
    None, True, 0, -(2**63), 2**63 - 1, 0.1, -0.0, 5e-324, math.inf, -math.inf, "a'b\"c\\", torch.bfloat16,
    torch.device("cuda:1"), torch.device("cpu"), torch.channels_last, torch.strided, ..., (), (1, (2, [3])), [1, 2],
    slice(None, 2), slice(1, None, 2), {"a": (1,)},
]  # fmt: skip


@pytest.mark.parametrize("value", ARGUMENTS, ids=repr)
def test_arguments_survive_exactly(value: Any) -> None:
    graph = new_graph()
    x = graph.placeholder("x")
    graph.output(graph.call_function(torch.add, (x,), {"alpha": value}))
    again = from_json(json.loads(json.dumps(to_json(graph))))
    stored = next(n for n in again.nodes if n.op == "call_function").kwargs["alpha"]
    assert repr(stored) == repr(value)
    assert type(stored) is type(value) or isinstance(stored, list | dict)


def test_nan_survives() -> None:
    graph = new_graph()
    graph.output(graph.call_function(torch.add, (graph.placeholder("x"), math.nan)))
    again = from_json(json.loads(json.dumps(to_json(graph))))
    assert math.isnan(next(n for n in again.nodes if n.op == "call_function").args[1])


def test_special_floats_run() -> None:
    graph = new_graph()
    x = graph.placeholder("x")
    graph.output(graph.call_function(torch.clamp, (x, -math.inf, 1.5)))
    module = nn.Identity()
    bind(module, BlockGraph(graph))
    assert module(torch.tensor([2.0])).item() == 1.5


NASTY = ["__import__('os').system('x')", "'", '"', "\\", "{x}", "%s", "os", "self", "__class__", "eval", "a.b", "", "é"]
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from(NASTY) | st.text(max_size=8)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["tuple", "list", "dict", "slice", "node", "dtype", "float", "x", *NASTY]), inner
        )
    ),
    max_leaves=6,
)
TARGETS = st.sampled_from([*FUNCTIONS, *METHODS, *NASTY, "self_attn", "mlp.up_proj", "**kw"])


@st.composite
def mutated(draw: st.DrawFn) -> Json:
    data = valid()
    for _ in range(draw(st.integers(1, 4))):
        chosen = data["nodes"][draw(st.integers(0, len(data["nodes"]) - 1))]
        field = draw(st.sampled_from(["op", "name", "target", "args", "kwargs"]))
        if field == "args" and isinstance(chosen["args"], list) and chosen["args"] and draw(st.booleans()):
            chosen["args"][draw(st.integers(0, len(chosen["args"]) - 1))] = draw(VALUES)
        elif field == "kwargs" and isinstance(chosen["kwargs"], dict) and draw(st.booleans()):
            chosen["kwargs"][draw(st.sampled_from(NASTY) | st.text("abc_", max_size=4))] = draw(VALUES)
        else:
            chosen[field] = draw(TARGETS if field == "target" else VALUES)
    return data


def assert_harmless(graph: BlockGraph) -> None:
    """Read the generated code: it may only name its own variables and the allowed functions."""
    code = graph.graph.python_code("self")
    tree = ast.parse(code.src)
    function = next(n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef))
    assert [n for n in tree.body if not isinstance(n, ast.FunctionDef)] == []
    local = {a.arg for a in (*function.args.args, *function.args.kwonlyargs)} | {
        n.id for n in ast.walk(function) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)
    }
    local |= {function.args.kwarg.arg} if function.args.kwarg else set()
    for part in ast.walk(function):
        assert not isinstance(part, ast.Import | ast.ImportFrom | ast.Lambda | ast.Global | ast.Nonlocal | ast.ListComp)
        if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Load) and part.id not in local:
            value = code.globals.get(part.id)
            plain = part.id in (
                "slice",
                "getattr",
                "float",
                "abs",
                "max",
                "min",
                "round",
                "inf",
                "nan",
                "device",
                "torch",
            )
            assert plain or function_name(value) is not None, part.id
        if isinstance(part, ast.Attribute):
            assert not part.attr.startswith("__") or part.attr in METHODS
    for n in graph.graph.nodes:
        if n.op == "call_function":
            name = function_name(n.target)
            assert name in FUNCTIONS or ROTARY.fullmatch(name or "")
        if n.target is getattr:
            assert n.args[1] in ATTRIBUTES


@pytest.mark.filterwarnings("ignore::SyntaxWarning")
@settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
@given(mutated())
def test_mutated_files_are_refused_or_harmless(data: Json) -> None:
    try:
        graph = BlockGraph.from_json(data)
    except ArtifactError as error:
        assert error.code == "FYC-A07"  # noqa: PT017
        return
    assert_harmless(graph)
    forward_of(graph)
    assert json.dumps(BlockGraph.from_json(graph.to_json()).to_json()) == json.dumps(graph.to_json())


def test_the_harmlessness_check_itself_works() -> None:
    assert_harmless(BlockGraph.from_json(valid()))
    graph = BlockGraph.from_json(valid())
    next(n for n in graph.graph.nodes if n.op == "call_function").target = print
    with pytest.raises(AssertionError):
        assert_harmless(graph)


def test_nothing_on_the_list_reaches_files_or_code() -> None:
    words = (
        "load",
        "save",
        "file",
        "exec",
        "eval",
        "compile",
        "import",
        "hook",
        "apply",
        "map",
        "open",
        "pickle",
        "numpy",
    )
    for name in (*FUNCTIONS, *METHODS):
        assert not any(word in name.rpartition(":")[2].split("_") for word in words), name
