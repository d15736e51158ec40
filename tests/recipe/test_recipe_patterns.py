"""Globs on module paths."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fyc.recipe import ModulePatterns

PATHS = [
    f"model.layers.{i}.{name}" for i in (0, 1, 10) for name in ("self_attn.q_proj", "mlp.up_proj", "mlp.down_proj")
]
PATHS += ["model.embed_tokens", "lm_head"]


def chosen(include: list[str], exclude: list[str]) -> list[str]:
    patterns = ModulePatterns(include, exclude)
    return [path for path in PATHS if patterns.selects(path)]


def test_without_patterns_everything_is_selected():
    assert chosen([], []) == PATHS


@pytest.mark.parametrize(
    ("include", "exclude", "count"),
    [
        (["model.layers.1"], [], 3),
        (["model.layers.1*"], [], 6),
        (["model.layers.*.mlp.*"], [], 6),
        (["*.q_proj", "lm_head"], [], 4),
        (["model.layers.[01].mlp"], [], 4),
        ([], ["lm_head", "model.embed_tokens"], 9),
        (["model"], ["*.down_proj"], 7),
        (["model.layers.?"], [], 6),
        (["layers"], [], 0),
        (["Model"], [], 0),
    ],
)
def test_patterns_select_modules_and_what_is_inside_them(include, exclude, count):
    assert len(chosen(include, exclude)) == count


def test_patterns_that_match_nothing_are_named_in_order():
    patterns = ModulePatterns(["lm_head", "model.layer.*"], ["*.mlp.*", "*.mpl.*"])
    assert patterns.unmatched(PATHS) == ["model.layer.*", "*.mpl.*"]


@given(st.sampled_from(PATHS), st.sampled_from(PATHS))
def test_a_plain_path_selects_itself_and_its_inside_only(pattern, path):
    expected = path == pattern or path.startswith(pattern + ".")
    assert ModulePatterns([pattern]).selects(path) == expected
    assert ModulePatterns([], [pattern]).selects(path) != expected


@given(st.text("ab.*?[]!-\\^$(", max_size=8), st.text("ab.[\n", max_size=6))
def test_any_pattern_is_a_pattern(pattern, path):
    ModulePatterns([pattern], [pattern]).unmatched([path])
