"""`fyc asl train` on tables of scripted sentences, and what a run makes of the model."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from asl_annotated import PHRASES, analysis_of, annotate, with_tier
from asl_measures import markers_of, sentence
from typer.testing import CliRunner, Result

from fyc.asl.elan.document import Annotation, Document, Vocabulary
from fyc.asl.learning.model import RECOGNIZER, REPORT, model_folder, open_model
from fyc.asl.learning.validation import judge, labels
from fyc.asl.output.annotation import MARKER_TIER, SYNTHETIC, TIERS, make_tiers
from fyc.asl.output.csv_table import COLUMNS, write_csv
from fyc.asl.recognition.context import Pca
from fyc.asl.recognition.events import RULES
from fyc.asl.recognition.features import FEATURES
from fyc.asl.recognition.recognizer import About, Recognizer
from fyc.asl.recognition.training import Example, Settings, train
from fyc.asl.run import EVENT_LABELS, find
from fyc.asl.segments import Segment
from fyc.cli.main import app
from fyc.errors import FycError, ModelError, ResourceError

QUICK = Settings(iterations=8, features=FEATURES[:10])


def fyc(*words: object) -> Result:
    return CliRunner().invoke(app, ["asl", *map(str, words)])


def markers_only(folder: Path, seeds: Sequence[int], signers: int = 2) -> Path:
    for seed in seeds:
        annotate(folder, seed, signer=f"signer {seed // 4 % signers}", events={})
    return folder


@pytest.fixture(scope="module")
def taught(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Result]:
    """A corpus of two signers, its model, and what was printed."""
    folder = tmp_path_factory.mktemp("taught")
    markers_only(folder / "corpus", range(8))
    done = fyc("train", folder / "corpus", "-o", folder / "model")
    assert done.exit_code == 0, done.output
    return folder / "corpus", folder / "model", done


def test_the_folder_and_what_is_printed(taught: tuple[Path, Path, Result]) -> None:
    _, model, done = taught
    assert {path.name for path in model.iterdir()} == {RECOGNIZER, REPORT}
    report = json.loads((model / REPORT).read_text(encoding="utf-8"))
    counts = {entry["label"]: (entry["count"], entry["signers"]) for entry in report["markers"]}
    assert counts == {"negation": (2, 2), "topic": (2, 2), "wh-question": (2, 2)}
    assert report["judged"] == {"by": "signer", "parts": 2, "iou": 0.5}
    assert all(0 <= entry["f1"] <= 1 for entry in report["markers"])
    assert report["events"] == []
    assert len(report["documents"]) == 8
    assert not report["synthetic"]
    assert "topic" in done.stdout
    assert "--model" in done.stdout.splitlines()[-1]
    assert "warning: 'topic': only 2 examples" in done.stderr


def test_the_same_documents_give_the_same_bytes(taught: tuple[Path, Path, Result], tmp_path: Path) -> None:
    documents, model, _ = taught
    done = fyc("train", *sorted(documents.glob("*.eaf")), "-o", tmp_path / "again", "--json")
    for name in (RECOGNIZER, REPORT):
        assert (tmp_path / "again" / name).read_bytes() == (model / name).read_bytes()
    assert json.loads(done.stdout) == json.loads((model / REPORT).read_text(encoding="utf-8"))


def test_a_run_finds_what_the_library_finds(taught: tuple[Path, Path, Result], tmp_path: Path) -> None:
    """Doubtful frames count as unknown in both."""
    _, model, _ = taught
    recognizer = open_model(model)
    assert recognizer.about.marker_tier == MARKER_TIER
    measures, _ = sentence(PHRASES[0], 40)
    doubt = replace(measures, confidence=np.where(np.arange(len(measures)) < 6, 0.2, 1.0))
    analysis = analysis_of(doubt, tmp_path / "a.mp4")
    found = find(analysis, recognizer)
    unknown = measures.without(np.arange(len(measures)) < 6)
    assert found.markers == [marker.plain for marker in recognizer.recognise(unknown).markers] != []
    tiers = make_tiers(analysis, found.events, found.markers, found.scheme)
    assert tiers[0].name == MARKER_TIER
    assert [note.value for note in tiers[0].annotations] == [marker.label for marker in found.markers]
    assert list(found.scheme.markers) == ["negation", "topic", "wh-question"]
    assert found.events == find(analysis).events
    assert find(analysis).scheme.markers == {}


def test_the_tier_has_the_name_it_was_learned_from(tmp_path: Path) -> None:
    def rename(document: Document) -> Document:
        return with_tier(document, MARKER_TIER, name="NMM")

    for seed in range(4):
        annotate(tmp_path / "corpus", seed, events={}, change=rename)
    done = fyc("train", tmp_path / "corpus", "-o", tmp_path, "--markers", "nmm")
    assert done.exit_code == 0
    assert "PARTICIPANT" in done.stderr
    found = find(analysis_of(sentence(PHRASES[0], 40)[0], tmp_path / "a.mp4"), open_model(tmp_path / RECOGNIZER))
    assert found.scheme.marker_tier == "NMM"


def test_one_label_of_one_signer(tmp_path: Path) -> None:
    for seed in (0, 4):
        annotate(tmp_path / "corpus", seed, signer="Anna", events={})
    done = fyc("train", tmp_path / "corpus", "-o", tmp_path, "--json")
    (entry,) = json.loads(done.stdout)["markers"]
    assert (entry["label"], entry["f1"]) == ("wh-question", None)
    report = json.loads((tmp_path / REPORT).read_text(encoding="utf-8"))
    assert report["judged"] is None
    assert any("of one signer" in warning for warning in report["warnings"])
    assert open_model(tmp_path).markers == ("wh-question",)


def test_synthetic_documents_are_called_so(tmp_path: Path) -> None:
    def mark(document: Document) -> Document:
        words = Vocabulary("v", (("wh-question", SYNTHETIC),))
        return with_tier(replace(document, vocabularies=(words,)), MARKER_TIER, vocabulary="v")

    for seed in (0, 4):
        annotate(tmp_path / "corpus", seed, events={}, change=mark)
    done = fyc("train", tmp_path / "corpus", "-o", tmp_path)
    assert "synthetic" in done.stderr
    recognizer = open_model(tmp_path)
    assert recognizer.about.synthetic
    scheme = find(analysis_of(sentence(PHRASES[0], 40)[0], tmp_path / "a.mp4"), recognizer).scheme
    assert "synthetic" in scheme.markers["wh-question"]


def test_errors_come_first_and_nothing_is_written(tmp_path: Path) -> None:
    markers_only(tmp_path / "corpus", range(2))
    (tmp_path / "corpus" / "sentence 001.csv").unlink()
    done = fyc("train", tmp_path / "corpus", "-o", tmp_path / "model")
    assert isinstance(done.exception, FycError)
    assert done.exception.code == "FYC-V01"
    assert not (tmp_path / "model").exists()
    done = fyc("train", tmp_path / "corpus", "-o", tmp_path / "model", "--skip-broken")
    assert done.exit_code == 0
    assert "left out:" in done.stderr
    report = json.loads((tmp_path / "model" / REPORT).read_text(encoding="utf-8"))
    assert report["documents"] == ["sentence 000.eaf"]
    assert report["skipped"][0]["code"] == "FYC-V01"


def test_a_folder_that_cannot_be_is_found_out_first(tmp_path: Path) -> None:
    markers_only(tmp_path / "corpus", range(1))
    (tmp_path / "model").write_text("a file", encoding="utf-8")
    done = fyc("train", tmp_path / "corpus", "-o", tmp_path / "model")
    assert isinstance(done.exception, FycError)
    assert done.exception.code == "FYC-E05"
    assert fyc("train", tmp_path / "corpus", "-o", tmp_path, "--measures", tmp_path / "none").exit_code == 2


def test_what_is_wrong_in_documents_is_said(tmp_path: Path) -> None:
    def overlap(document: Document) -> Document:
        notes = document.tiers[0].annotations
        return with_tier(document, MARKER_TIER, annotations=(*notes, Annotation(notes[0].end_ms, 5000, "  ")))

    annotate(tmp_path / "corpus", 0, events={}, change=overlap)
    done = fyc("train", tmp_path / "corpus", "-o", tmp_path)
    assert "note: sentence 000.eaf: tier 'nonmanual markers': 1 of 2 annotations without a text" in done.stderr


def test_killed_while_it_learns_it_leaves_the_old_model(taught: tuple[Path, Path, Result], tmp_path: Path) -> None:
    documents, _, _ = taught
    for before in (None, b"the model before"):
        if before:
            (tmp_path / RECOGNIZER).write_bytes(before)
        command = [sys.executable, "-m", "fyc", "asl", "train", str(documents), "-o", str(tmp_path)]
        process = subprocess.Popen(
            command, stderr=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
        )
        assert process.stderr is not None
        assert process.stderr.readline().startswith("judging")
        process.send_signal(signal.SIGKILL)
        process.communicate()
        files = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
        assert files == ({RECOGNIZER: before} if before else {}) | {".train.lock": b""}


def test_events_are_left_out_when_that_is_asked_for(tmp_path: Path) -> None:
    """The tier of brows has a name of `fyc asl run`, and would be learned from."""
    for seed in (0, 4):
        annotate(tmp_path / "corpus", seed, signer="Anna")
    words = ("train", tmp_path / "corpus", "-o", tmp_path / "model", "--no-events")
    report = json.loads(fyc(*words, "--json").stdout)
    assert report["events"] == []
    assert [entry["label"] for entry in report["markers"]] == ["wh-question"]
    assert open_model(tmp_path / "model").level_one.by_rules == tuple(RULES)
    done = fyc(*words, "--events", "brows")
    assert done.exit_code == 2
    assert "--no-events" in done.stderr


def test_tables_of_several_folders(tmp_path: Path) -> None:
    """Each document has its table in another folder; with the first folder only the other has none."""
    for seed in (0, 4):
        eaf = annotate(tmp_path / "corpus", seed, signer="Anna", events={})
        (tmp_path / f"tables {seed}").mkdir()
        eaf.with_suffix(".csv").rename(tmp_path / f"tables {seed}" / f"{eaf.stem}.csv")
    words = ["train", tmp_path / "corpus", "-o", tmp_path / "model", "--measures", tmp_path / "tables 0"]
    one = fyc(*words)
    assert isinstance(one.exception, FycError)
    assert one.exception.code == "FYC-V01"
    both = fyc(*words, "--measures", tmp_path / "tables 4")
    assert both.exit_code == 0
    assert "learned from 2 documents" in both.stdout


@pytest.mark.parametrize(("folders", "name"), [(("x", "y"), "x, y"), (("k", "l", "m", "n"), "corpus")])
def test_a_model_is_named_after_the_folders_of_its_documents(
    folders: tuple[str, ...], name: str, tmp_path: Path
) -> None:
    for seed, folder in enumerate(folders):
        annotate(tmp_path / "corpus" / folder, 4 * seed, signer=folder, events={})
    assert fyc("train", tmp_path / "corpus", "-o", tmp_path / "model").exit_code == 0
    assert open_model(tmp_path / "model").about.data == name


def test_two_trainings_of_one_model(tmp_path: Path) -> None:
    markers_only(tmp_path / "corpus", (0, 4))
    words = ("train", tmp_path / "corpus", "-o", tmp_path / "model")
    with model_folder(tmp_path / "model"):
        done = fyc(*words)
    assert isinstance(done.exception, ResourceError)
    assert done.exception.code == "FYC-S03"
    assert list((tmp_path / "model").iterdir()) == []
    assert fyc(*words).exit_code == 0


def small(events: Sequence[Segment] = ()) -> tuple[Example, Example]:
    measures, gold = sentence(PHRASES[1], 1)
    one = Example(measures, [*events, Segment(0.2, 0.8, "brow-lower")], markers_of(gold), "a")
    return one, replace(one, signer="b")


def test_events_of_the_model_and_of_the_rules(tmp_path: Path) -> None:
    """A label without a rule has the tier it came from; one with a rule that is no worse stays with the rules."""
    trained = train(small([Segment(0.5, 1.5, "squint"), Segment(1, 1.4, "up")]), "few", False, QUICK)
    tiers = {"squint": "track", "up": "brows", "brow-lower": "brows"}

    def shown(rules: tuple[str, ...]) -> dict[str, dict[str, str]]:
        about = About("few", False, 2, "", tiers, rules)
        return dict(find(analysis_of(small()[0].measures, tmp_path), replace(trained, about=about)).scheme.events)

    assert list(shown(())["brows"]) == ["brow-lower", "up"]
    assert list(shown(("brow-lower",))["brows"]) == ["up"]
    assert list(shown(())["track (2)"]) == ["squint"]
    assert {name: list(shown(())[name]) for name in TIERS if name != "brows"} == {
        name: list(entries) for name, entries in TIERS.items() if name != "brows"
    }


def test_events_of_the_model_are_those_that_it_finds(tmp_path: Path) -> None:
    trained = train(small([Segment(0.5, 1.5, "squint")]), "few", False, replace(QUICK, l2_events=0.1, iterations=40))
    analysis = analysis_of(small()[0].measures, tmp_path)
    both = find(analysis, trained)
    recognised = trained.recognise(analysis.measures).events
    for label in ("squint", "brow-lower"):
        ours = [event for event in both.events if event.label == label]
        assert ours == [event.plain for event in recognised if event.label == label]
    assert any(event.label == "squint" for event in both.events)
    others = [event for event in find(analysis).events if event.label != "brow-lower"]
    kept = [event for event in both.events if event.label not in ("squint", "brow-lower")]
    assert kept == sorted(others, key=lambda event: (event.label, event.start_s)) != []
    by_rules = find(analysis, replace(trained, about=replace(trained.about, rules_instead=("brow-lower",))))
    assert [e for e in by_rules.events if e.label == "brow-lower"] == [
        e for e in find(analysis).events if e.label == "brow-lower"
    ]


def test_no_signer_is_judged_by_a_model_of_their_own() -> None:
    seen: list[set[str]] = []

    def watched(examples: Sequence[Example]) -> Recognizer:
        seen.append({example.signer for example in examples})
        return train(examples, "few", False, QUICK)

    one, two = small()
    judgement = judge([one, two, one], watched, lambda _: None)
    assert seen in ([{"b"}, {"a"}], [{"a"}, {"b"}])
    assert judgement.markers["negation"].true == 3 * len(one.markers)
    only = replace(one, markers=[Segment(0, 1, "rare"), *one.markers])
    assert "rare" not in judge([only, two], watched, lambda _: None).markers
    assert judge([one, one], watched, lambda _: None).parts == 0
    (rare, _) = sorted(labels([("a", only.markers)]), key=lambda label: label.name != "rare")
    assert len(rare.warnings) == 2


def test_columns_have_safe_names(tmp_path: Path) -> None:
    measures, _ = sentence(PHRASES[0], 0)
    names = ["mouth", "=cmd()", "wh q?", "wh-q", "ja/nein Frage", "?"]
    analysis = analysis_of(measures, tmp_path / "a.mp4")
    write_csv(analysis, [], EVENT_LABELS, tmp_path / "a.csv", [Segment(0, 0.5, "wh-q")], names)
    with (tmp_path / "a.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    head = list(rows[0])
    assert head[-6:] == ["mouth_2", "cmd", "wh_q", "wh_q_2", "ja_nein_Frage", "label"]
    assert head[: len(COLUMNS)] == list(COLUMNS)
    assert [row["wh_q_2"] for row in rows[:17]] == ["1"] * 15 + ["0"] * 2


def test_a_model_that_cannot_be_used(taught: tuple[Path, Path, Result], tmp_path: Path) -> None:
    recognizer = open_model(taught[1])
    level = replace(recognizer.level_one, texture=Pca(np.zeros(3), np.zeros((0, 3))))
    replace(recognizer, level_one=level).save(tmp_path / RECOGNIZER)
    for path, code in ((tmp_path, "FYC-M05"), (tmp_path / RECOGNIZER, "FYC-M05"), (tmp_path / "no", "FYC-M01")):
        done = fyc("run", tmp_path / "video.mp4", "-o", tmp_path / "out", "--model", path)
        assert isinstance(done.exception, ModelError)
        assert done.exception.code == code
    assert not (tmp_path / "out").exists()
