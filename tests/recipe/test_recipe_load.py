"""Recipes: every mistake is found, and shown at its line and column."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fyc.errors import FycError, RecipeError
from fyc.recipe import load_recipe, override_recipe, parse_recipe

GOOD = """\
schema: 1
model: {source: org/model, dtype: float32}
seed: 7
calibration: {text: book.txt, samples: 64, length: 512}
passes:
  - use: flatten-quant
    include: [model.layers.*]
    options: {weights: int8, expansion: 0.01}
verify: {max_perplexity_increase: 0.03}
output: {dir: out/x}
"""


def refused(text: str, *overrides: str) -> RecipeError:
    with pytest.raises(RecipeError) as caught:
        parse_recipe(text, name="r.yaml", overrides=overrides)
    return caught.value


def changed(old: str, new: str) -> str:
    assert old in GOOD
    return GOOD.replace(old, new)


def test_a_good_recipe_is_read_with_its_defaults():
    recipe = parse_recipe(GOOD)
    assert recipe.model.source == "org/model"
    assert recipe.model.opaque == "error"
    assert recipe.calibration is not None
    assert recipe.calibration.samples == 64
    assert recipe.passes[0].options == {"weights": "int8", "expansion": 0.01}
    assert recipe.passes[0].exclude == ()
    assert recipe.verify is not None
    assert recipe.verify.samples == 8
    assert recipe.output.shard_mb == 1024


@pytest.mark.parametrize(
    ("old", "new", "where", "hint"),
    [
        ("seed: 7", "sed: 7", "3:1", "`seed`"),
        ("samples: 64", "sample: 64", "4:31", "`samples`"),
        ("use: flatten-quant", "use: flatten-quant\n    option: {}", "7:5", "`options`"),
        ("max_perplexity_increase: 0.03", "max_perplexity_increase: 0.03, sampels: 3", "9:41", "`samples`"),
        ("dir: out/x", "dir: out/x, compress: true", "10:22", "dir, shard_mb"),
    ],
)
def test_an_unknown_key_is_shown_with_its_place_and_the_closest_name(old, new, where, hint):
    error = refused(changed(old, new))
    assert error.code == "FYC-R02"
    assert error.where == f"r.yaml:{where}"
    assert hint in error.next


@pytest.mark.parametrize(
    ("old", "new", "where", "what"),
    [
        ("samples: 64", 'samples: "64"', "4:40", "`calibration.samples` should be a valid integer"),
        ("samples: 64", "samples: 0", "4:40", "greater than or equal to 1"),
        ("samples: 64", "samples: 1.5", "4:40", "integer"),
        ("samples: 64", "samples: true", "4:40", "integer"),
        ("dtype: float32", "dtype: fp8", "2:35", "'bfloat16'"),
        ("schema: 1", "schema: 2", "1:9", "`schema` should be 1"),
        ("[model.layers.*]", "model.layers.*", "7:14", "array"),
        ("[model.layers.*]", "[1]", "7:15", "string"),
        ("0.03", ".nan", "9:35", "finite"),
        ("0.03", "-1", "9:35", "greater than or equal to 0"),
        ("seed: 7", "seed: null", "3:7", "integer"),
        ("seed: 7", "seed: 99999999999999999999", "3:7", "less than"),
        ("options: {weights: int8, expansion: 0.01}", "options: [1]", "8:14", "object"),
        ("text: book.txt, ", "", "4:14", "`calibration.text` is missing"),
        ("calibration: {text: book.txt, samples: 64, length: 512}\n", "", "8:9", "no `calibration`"),
    ],
)
def test_a_wrong_value_is_shown_with_its_place(old, new, where, what):
    error = refused(changed(old, new))
    assert error.code in {"FYC-R03", "FYC-R01"}
    assert error.where == f"r.yaml:{where}"
    assert what in error.what


@pytest.mark.parametrize(
    ("text", "where"),
    [
        (changed("seed: 7", "seed: 7\nseed: 8"), "4:1"),
        (changed("seed: 7", "seed: [1"), "4:12"),
        (changed("  - use", "\t- use"), "6:1"),
        (changed("seed: 7", "seed: 2020-01-01"), "3:7"),
        (changed("seed: 7", "seed: !!python/object:os.system x"), "3:7"),
        (changed("seed: 7", "? [a, b]\n: 7"), "3:3"),
        (changed("seed: 7", "seed: *nowhere"), "3:7"),
        ("a: 1\n---\nb: 2\n", "2:1"),
        ("a: &a [*a]", "1:4"),
    ],
    ids=["duplicate", "flow", "tab", "date", "tag", "key", "alias", "documents", "recursive"],
)
def test_text_that_is_not_yaml_is_shown_with_its_place(text, where):
    error = refused(text)
    assert error.code == "FYC-R01"
    assert error.where == f"r.yaml:{where}"


def test_a_tab_is_explained():
    assert "spaces" in refused(changed("  - use", "\t- use")).next


def test_an_alias_bomb_is_refused():
    bomb = "a0: &a0 [x, x, x, x, x, x, x, x]\n"
    bomb += "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 8)}]\n" for i in range(1, 12))
    assert refused(bomb).code == "FYC-R01"


def test_all_mistakes_are_counted_and_a_misspelt_key_comes_first():
    error = refused(
        changed("seed: 7", "sed: 7").replace("samples: 64", "samples: x").replace("dtype: float32", "dtype: x")
    )
    assert error.where == "r.yaml:3:1"
    assert "2 more" in error.why
    assert "r.yaml:2:35" in error.why
    assert "r.yaml:4:40" in error.why


@pytest.mark.parametrize("text", ["", "# nothing\n", "[]", "word"])
def test_a_text_that_is_no_mapping_is_refused(text):
    assert refused(text).code == "FYC-R03"


def test_a_missing_model_says_how_to_name_one():
    assert "--model" in refused(changed("model: {source: org/model, dtype: float32}\n", "")).next
    assert parse_recipe(changed("source: org/model, ", ""), overrides=["model.source=x"]).model.source == "x"


def test_a_recipe_without_passes_is_refused():
    error = refused(GOOD[: GOOD.index("passes:")] + "passes: []\n")
    assert "at least one pass" in error.what


def test_overrides_replace_values_and_make_missing_sections():
    text = changed("output: {dir: out/x}\n", "")
    sets = [
        "passes.0.options.expansion=0.05",
        "calibration.samples=3",
        "output.dir=out/y",
        "passes.0.exclude=[lm_head]",
    ]
    recipe = parse_recipe(text, overrides=sets)
    assert recipe.passes[0].options["expansion"] == 0.05
    assert recipe.passes[0].exclude == ("lm_head",)
    assert recipe.calibration is not None
    assert recipe.calibration.samples == 3
    assert recipe.output.dir == "out/y"


@pytest.mark.parametrize(
    ("assignment", "code"),
    [
        ("seed", "FYC-R09"),
        ("=3", "FYC-R09"),
        ("passes.1.use=x", "FYC-R09"),
        ("passes.first.use=x", "FYC-R09"),
        ("seed.x=1", "FYC-R09"),
        ("seed=[", "FYC-R01"),
        ("seed=x", "FYC-R03"),
        ("sed=1", "FYC-R02"),
        ("model.dtype=fp8", "FYC-R03"),
    ],
)
def test_a_wrong_override_names_its_text(assignment, code):
    error = refused(GOOD, assignment)
    assert error.code == code
    assert error.where.startswith(f"--set {assignment}")


def test_later_overrides_win():
    assert parse_recipe(GOOD, overrides=["seed=1", "seed=2"]).seed == 2


def test_where_points_into_the_file_or_at_the_override():
    recipe = parse_recipe(GOOD, name="r.yaml", overrides=["passes.0.options.weights=int4"])
    assert recipe.where("passes", 0, "include", 0) == "r.yaml:7:15"
    assert recipe.where("passes", 0, "exclude") == "r.yaml:6:5"
    assert recipe.where("passes", 0, "options", "weights") == "--set passes.0.options.weights=int4"
    assert recipe.where("passes", 0, "options", "expansion") == "r.yaml:8:41"


def test_overriding_a_recipe_leaves_it_as_it_was():
    recipe = parse_recipe(GOOD, name="r.yaml")
    other = override_recipe(recipe, ["seed=8"])
    assert (recipe.seed, other.seed) == (7, 8)
    assert recipe.where("seed") == "r.yaml:3:7"
    assert other.where("seed") == "--set seed=8"


def test_yaml_of_a_recipe_reads_back_equal_and_leaves_the_folder_out():
    recipe = parse_recipe(GOOD)
    text = recipe.to_yaml()
    assert "out/x" not in text
    assert parse_recipe(text, overrides=["output.dir=out/x"]).to_data() == recipe.to_data()
    assert parse_recipe(changed("dir: out/x", "dir: elsewhere")).to_yaml() == text


def test_a_file_is_read_and_named_as_the_user_named_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("my.yaml").write_bytes(b"\xef\xbb\xbf" + GOOD.encode())
    assert load_recipe("my.yaml").where("seed") == "my.yaml:3:7"


def test_files_that_cannot_be_read_are_refused(tmp_path):
    latin, large = tmp_path / "latin.yaml", tmp_path / "model.safetensors"
    latin.write_bytes("# Größe\n".encode("latin-1") + GOOD.encode())
    large.write_bytes(b"\0" * 1_000_001)
    for path, code in ((latin, "FYC-R01"), (large, "FYC-R01"), (tmp_path, "FYC-R06"), (tmp_path / "no", "FYC-R06")):
        with pytest.raises(RecipeError) as caught:
            load_recipe(path)
        assert caught.value.code == code


def test_an_unknown_name_lists_the_shipped_recipes():
    with pytest.raises(RecipeError) as caught:
        load_recipe("flaten-w8a8")
    assert caught.value.code == "FYC-R06"
    assert "did you mean `flatten-w8a8`?" in caught.value.next


@given(st.text(max_size=200))
def test_any_text_is_read_or_refused(text):
    try:
        parse_recipe(text)
    except FycError as error:
        assert error.code in {"FYC-R01", "FYC-R02", "FYC-R03"}  # noqa: PT017


@given(st.integers(0, len(GOOD) - 1), st.characters(codec="utf-8"))
def test_any_changed_character_is_read_or_refused(position, character):
    try:
        parse_recipe(GOOD[:position] + character + GOOD[position + 1 :], name="r.yaml")
    except FycError as error:
        assert error.where.startswith("r.yaml")  # noqa: PT017


@pytest.mark.parametrize("text", ["2:4", "12:30:45", "yes", "on"])
def test_texts_that_older_yaml_takes_for_something_else(text):
    recipe = parse_recipe(f"schema: 1\nmodel: {{source: m}}\npasses: [{{use: p, options: {{pattern: {text}}}}}]\n")
    assert recipe.passes[0].options == {"pattern": text}
