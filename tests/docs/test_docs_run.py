"""The code blocks marked `run` run, in the order of their page, in a folder with a tiny random model."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import pytest
import torch
from doc_pages import DOCS, CodeBlock, code_blocks, name

from fyc.cli.main import main

GUIDE = DOCS / "guide.md"
RUNNING = [page for page in sorted(DOCS.rglob("*.md")) if any(block.runs for block in code_blocks(page))]


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a reader has before the first page: a model, and a text it can read."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("docs")
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=64, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=512, bos_token_id=0, eos_token_id=None,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder / "smollm2")
    vocabulary = {f"w{i}": i for i in range(63)} | {"[UNK]": 63}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="[UNK]").save_pretrained(folder / "smollm2")
    words = torch.randint(0, 63, (20 * 512,), generator=torch.Generator().manual_seed(1)).tolist()
    (folder / "book.txt").write_text(" ".join(f"w{word}" for word in words), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def converted(begun: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a reader of the other pages has: the guide's recipe, and the artifact that it makes."""
    folder = tmp_path_factory.mktemp("converted") / "here"
    shutil.copytree(begun, folder)
    (recipe,) = (block for block in code_blocks(GUIDE) if block.file == "recipe.yaml")
    (folder / "recipe.yaml").write_text(recipe.text.replace("./", f"{folder}/").replace("book", f"{folder}/book"))
    _fyc(["convert", str(folder / "recipe.yaml"), "-o", str(folder / "out"), "--progress", "none"])
    (folder / "recipe.yaml").write_text(recipe.text, encoding="utf-8")
    shutil.copytree(folder / "out", folder / "out-python")
    return folder


@pytest.mark.parametrize("page", RUNNING, ids=name)
def test_marked_blocks_run(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    start: Path = request.getfixturevalue("begun" if page == GUIDE else "converted")
    shutil.copytree(start, tmp_path / "here")
    monkeypatch.chdir(tmp_path / "here")
    if page != GUIDE and page.name == "python.md":
        shutil.rmtree("out-python")
    for block in code_blocks(page):
        if block.file is not None:
            Path(block.file).write_text(block.text, encoding="utf-8")
        if block.runs:
            _run(block, page)


def _run(block: CodeBlock, page: Path) -> None:
    if block.language == "python":
        code = compile("\n" * block.line + block.text, str(page), "exec")
        exec(code, {"__name__": "__main__"})
    else:
        assert block.language == "bash"
        for line in re.sub(r"\\\n", " ", block.text).splitlines():
            words = shlex.split(line, comments=True)
            if words:
                assert words[0] == "fyc", f"{page}:{block.line}: only fyc commands can be marked `run`"
                _fyc(words[1:])


def _fyc(arguments: list[str]) -> None:
    """Run a command in this process: a process of its own would import torch each time."""
    with pytest.raises(SystemExit) as left:
        main(arguments)
    assert left.value.code == 0, f"fyc {shlex.join(arguments)}"


def test_every_page_that_promises_code_was_found() -> None:
    assert {"guide.md", "python.md", "artifact.md", "ir.md"} <= {page.name for page in RUNNING}


@pytest.mark.parametrize("page", sorted(DOCS.rglob("*.md")), ids=name)
def test_python_blocks_are_python(page: Path) -> None:
    for block in code_blocks(page):
        if block.language == "python":
            compile(block.text, f"{page}:{block.line}", "exec")


def test_recipes_in_the_documentation_are_valid() -> None:
    """Complete recipes, as opposed to fragments, start with `schema: 1`."""
    from fyc.recipe import parse_recipe

    complete = [b for page in DOCS.rglob("*.md") for b in code_blocks(page) if b.text.startswith("schema:")]
    assert len(complete) >= 4
    for block in complete:
        parse_recipe(block.text)
