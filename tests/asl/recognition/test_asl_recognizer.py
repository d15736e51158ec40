"""The recognizer on scripted sentences with little noise: trained, judged, saved, loaded, spoilt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from asl_measures import markers_of, sentence
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from safetensors import safe_open

from fyc.asl.measures import Measures
from fyc.asl.recognition.context import NEAR, Pca, Standard, folds, run_lengths, window_means
from fyc.asl.recognition.events import RULES, scores
from fyc.asl.recognition.features import FEATURES, extract
from fyc.asl.recognition.recognizer import Recognizer, load_recognizer
from fyc.asl.recognition.training import MISSED, Example, Settings, in_pieces, train, with_events_missed
from fyc.asl.segments import macro, match, score
from fyc.errors import ModelError

PHRASES = (("wh-question",), ("negation",), ("statement",), ("topic", "statement"))
USED = ("yaw.swing_slow", "yaw.swing_quick", "yaw.rhythm", "brow_inner", "brow_outer", "brow_inner.velocity", "eyes")
QUICK = Settings(l2_events=1, l2_markers=1, iterations=30, features=USED)


def examples(seeds: range) -> list[Example]:
    found = []
    for seed in seeds:
        measures, gold = sentence(PHRASES[seed % len(PHRASES)], seed)
        events = [part for part in gold if part.label in ("brow-raise", "brow-lower", "head-shake")]
        found.append(Example(measures, events, markers_of(gold), f"signer {seed % 7}"))
    return found


@pytest.fixture(scope="module")
def trained() -> Recognizer:
    return train(examples(range(32)), "scripted sentences", synthetic=True, settings=QUICK)


def marker_f1(recognizer: Recognizer, tests: Sequence[Example]) -> float:
    found = []
    for example in tests:
        markers = recognizer.recognise(example.measures).markers
        found.append(score([part.plain for part in markers], example.markers, rate=30))
    scores = {label: [one[label] for one in found if label in one] for label in recognizer.markers}
    totals = [sum(parts[1:], parts[0]) for parts in scores.values()]
    return macro(totals, "f1") or 0.0


def test_markers_are_found_in_other_sentences(trained: Recognizer) -> None:
    assert trained.markers == ("negation", "topic", "wh-question")
    assert marker_f1(trained, examples(range(100, 116))) > 0.8


def test_events_are_found_with_phases(trained: Recognizer) -> None:
    hits = total = 0
    for example in examples(range(100, 116)):
        found = trained.recognise(example.measures).events
        assert all(part.start_s <= part.core_s <= part.offset_s <= part.end_s for part in found)
        for label in trained.level_one.classes:
            ours = [part.plain for part in found if part.label == label]
            theirs = [part for part in example.events if part.label == label]
            hits += 2 * len(match(ours, theirs))
            total += len(ours) + len(theirs)
    assert hits / total > 0.85


def test_probabilities_are_those_of_the_frames(trained: Recognizer) -> None:
    (example,) = examples(range(100, 101))
    result = trained.recognise(example.measures)
    assert result.event_names == ("brow-lower", "brow-raise", "head-shake")
    assert result.event_probabilities.shape == (len(example.measures), 3)
    assert result.marker_probabilities.shape == (len(example.measures), 3)
    assert (result.marker_probabilities >= 0).all()
    assert (result.marker_probabilities.sum(axis=1) <= 1 + 1e-9).all()
    (marker,) = example.markers
    middle = int((marker.start_s + marker.end_s) * 15)
    assert result.marker_probabilities[middle].argmax() == result.marker_names.index(marker.label)


def test_another_frame_rate_gives_the_same_segments(trained: Recognizer) -> None:
    (example,) = examples(range(101, 102))
    measures = example.measures
    times = np.arange(0, measures.time_s[-1], 1 / 50)
    table = np.column_stack([np.interp(times, measures.time_s, column) for column in measures.table.T])
    resampled = trained.recognise(Measures.from_table(times, np.ones(len(times)), table)).markers
    original = trained.recognise(measures).markers
    assert [part.label for part in resampled] == [part.label for part in original] != []
    for one, other in zip(resampled, original, strict=True):
        assert one.start_s == pytest.approx(other.start_s, abs=0.1)
        assert one.end_s == pytest.approx(other.end_s, abs=0.1)


def test_saved_and_loaded_it_is_the_same(trained: Recognizer, tmp_path: Path) -> None:
    file = tmp_path / "recognizer.safetensors"
    trained.save(file)
    with safe_open(file, framework="np") as opened:
        assert opened.metadata()["synthetic"] == "true"
        assert opened.metadata()["data"] == "scripted sentences"
    loaded = load_recognizer(file)
    assert loaded.about == trained.about
    assert loaded.about.videos == 32
    (example,) = examples(range(102, 103))
    one, other = trained.recognise(example.measures), loaded.recognise(example.measures)
    assert one.markers == other.markers
    assert one.events == other.events
    assert np.array_equal(one.marker_probabilities, other.marker_probabilities)


def test_what_is_no_recognizer_is_refused(trained: Recognizer, tmp_path: Path) -> None:
    file = tmp_path / "recognizer.safetensors"
    with pytest.raises(ModelError, match="cannot be found"):
        load_recognizer(file)
    trained.save(file)
    whole = file.read_bytes()
    for spoilt in (whole[:-100], whole.replace(b"fyc-asl-recognizer-2", b"fyc-asl-something--2"), b"pickle"):
        file.write_bytes(spoilt)
        with pytest.raises(ModelError, match="not a recognizer") as error:
            load_recognizer(file)
        assert error.value.code == "FYC-M03"
    file.write_bytes(whole.replace(b"head-shake", b"head-shak\\"))
    with pytest.raises(ModelError):
        load_recognizer(file)
    file.write_bytes(whole.replace(b"yaw.rhythm", b"yaw.hythmr"))
    with pytest.raises(ModelError) as error:
        load_recognizer(file)
    assert "yaw.hythmr" in str(error.value.why)
    replace(trained, standard=Standard(np.zeros(3), np.ones(3))).save(file)
    with pytest.raises(ModelError, match="not a recognizer") as error:
        load_recognizer(file)
    assert "standardisation" in str(error.value.why)


def test_a_file_of_another_version_says_so(trained: Recognizer, tmp_path: Path) -> None:
    """What level 2 sees changed with the number of the format; its parameters would fit nothing."""
    file = tmp_path / "recognizer.safetensors"
    trained.save(file)
    file.write_bytes(file.read_bytes().replace(b"fyc-asl-recognizer-2", b"fyc-asl-recognizer-1"))
    with pytest.raises(ModelError, match="another version of fyc") as error:
        load_recognizer(file)
    assert error.value.code == "FYC-M05"
    assert "fyc asl train" in str(error.value.next)


def test_training_is_repeated_exactly() -> None:
    short = Settings(iterations=3, features=USED)
    one, two = (train(examples(range(8)), "few", synthetic=True, settings=short) for _ in range(2))
    (example,) = examples(range(103, 104))
    first, second = (one.recognise(example.measures), two.recognise(example.measures))
    assert np.array_equal(first.marker_probabilities, second.marker_probabilities)


def test_without_annotated_events_the_rules_speak() -> None:
    plain = [Example(one.measures, (), one.markers, one.signer) for one in examples(range(32))]
    recognizer = train(plain, "markers only", synthetic=True, settings=QUICK)
    assert marker_f1(recognizer, examples(range(100, 116))) > 0.7
    result = recognizer.recognise(plain[1].measures)
    assert result.event_names == tuple(RULES)
    assert result.event_probabilities.shape == (len(plain[1].measures), len(RULES))


def test_events_that_nobody_annotated_are_seen_through_their_rules() -> None:
    """Markers here are brows and shakes; only blinks, which tell nothing, are annotated."""

    def blinks(seed: int) -> Example:
        measures, gold = sentence(PHRASES[seed % len(PHRASES)], seed)
        return Example(measures, [part for part in gold if part.label == "blink"], markers_of(gold), f"{seed % 7}")

    longer = replace(QUICK, l2_markers=10)
    recognizer = train([blinks(seed) for seed in range(32)], "blinks", synthetic=True, settings=longer)
    level = recognizer.level_one
    assert level.classes == ("blink",)
    assert level.by_rules == tuple(label for label in RULES if label != "blink")
    tests = examples(range(100, 116))
    assert marker_f1(recognizer, tests) > 0.7
    result = recognizer.recognise(tests[0].measures)
    assert result.event_names == level.classes
    assert {part.label for part in result.events} <= set(level.classes)


def test_level_one_says_phases_and_then_scores_of_rules(trained: Recognizer) -> None:
    (example,) = examples(range(100, 101))
    features = extract(example.measures)
    low = trained.level_one.low(features, None)
    (evidence,) = trained.level_one.evidence([low], [features])
    learned = len(trained.level_one.classes)
    assert evidence.shape == (len(low), 3 * learned + len(RULES) - learned)
    shown = [label not in trained.level_one.classes for label in RULES]
    assert np.array_equal(evidence[:, 3 * learned :], scores(features)[:, shown])


def test_without_annotated_markers_there_are_none(tmp_path: Path) -> None:
    plain = [Example(one.measures, one.events, (), one.signer) for one in examples(range(8))]
    recognizer = train(plain, "events only", synthetic=True, settings=Settings(iterations=5, features=USED))
    recognizer.save(tmp_path / "file")
    result = load_recognizer(tmp_path / "file").recognise(plain[1].measures)
    assert result.markers == []
    assert result.marker_probabilities.shape == (len(plain[1].measures), 0)
    assert result.events


def test_texture_tells_what_geometry_does_not() -> None:
    """Brows and head are still; only the texture shows the marker."""
    rng = np.random.default_rng(0)
    shown = []
    for example in examples(range(24)):
        frames = len(example.measures)
        texture = rng.normal(0, 0.3, (frames, 40))
        for part in example.markers:
            place = 10 * ("negation", "topic", "wh-question").index(part.label)
            texture[round(part.start_s * 30) : round(part.end_s * 30), place : place + 10] += 1
        still = Measures.from_table(example.measures.time_s, np.ones(frames), np.zeros((frames, 13)))
        shown.append(Example(still, (), example.markers, example.signer, texture))
    longer = Settings(l2_markers=1, iterations=40, features=USED)
    recognizer = train(shown[:16], "texture", synthetic=True, settings=longer)
    hits = 0
    for example in shown[16:]:
        found = recognizer.recognise(example.measures, example.texture).markers
        hits += [part.label for part in found] == [part.label for part in example.markers]
    assert hits >= 6
    with pytest.raises(ValueError, match="texture"):
        recognizer.recognise(shown[0].measures)


def test_what_cannot_be_trained() -> None:
    one, two = examples(range(2))
    with pytest.raises(ValueError, match="nothing is annotated"):
        train([Example(one.measures, (), ())], "none", synthetic=True)
    textured = Example(one.measures, one.events, one.markers, texture=np.zeros((len(one.measures), 3)))
    with pytest.raises(ValueError, match="texture"):
        train([textured, two], "some", synthetic=True)


def test_accompanying_events_are_missed_now_and_then() -> None:
    classes = ("brow-raise", "head-forward", "head-tilt")
    evidence = [np.full((4, 11), 0.2) for _ in range(400)]
    missed = np.stack([part.any(axis=0) for part in with_events_missed(evidence, classes, ("blink", "head-nod"))])
    assert missed[:, [0, 1, 2, 9]].all()
    assert np.array_equal(missed[:, 3], missed[:, 5])
    assert 1 - missed[:, [3, 6, 10]].mean(axis=0) == pytest.approx(MISSED, abs=0.07)
    assert not np.array_equal(missed[:, 3], missed[:, 6])


def test_windows_are_means_of_their_moments() -> None:
    rows = np.random.default_rng(0).normal(size=(50, 2))
    means = window_means(rows, NEAR)
    assert means.shape == (50, 8)
    assert np.allclose(means[25, :2], rows[10:19].mean(axis=0))
    assert np.allclose(means[25, 6:], rows[31:40].mean(axis=0))
    assert np.allclose(means[0, :2], rows[0])


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 20)), min_size=1, max_size=6))
@settings(max_examples=40, deadline=None)
def test_runs_have_their_length(runs: list[tuple[bool, int]]) -> None:
    present = np.concatenate([np.full(length, float(on)) for on, length in runs])
    elapsed, remaining, both = run_lengths(present[:, None]).T
    edges = np.flatnonzero(np.diff(np.concatenate([[0], present, [0]])))
    for first, end in edges.reshape(-1, 2):
        length = end - first
        assert np.allclose(elapsed[first:end] * 30, np.arange(1, length + 1))
        assert np.allclose(remaining[first:end] * 30, np.arange(length, 0, -1))
        assert np.allclose(both[first:end] * 30, length)
    assert not both[present == 0].any()


@given(arrays(np.float64, (12, 3), elements=st.floats(-100, 100)))
@settings(max_examples=30, deadline=None)
def test_standardised_columns(rows: np.ndarray) -> None:
    gaps = np.where(np.arange(36).reshape(12, 3) % 7 == 0, np.nan, rows)
    out = Standard.fit([gaps[:5], gaps[5:]]).apply(gaps)
    assert (out[np.isnan(gaps)] == 0).all()
    for before, after in zip(gaps.T, out.T, strict=True):
        if np.nanstd(before) > 1e-6:
            known = np.isfinite(before)
            assert after[known].mean() == pytest.approx(0, abs=1e-6)
            assert after[known].std() == pytest.approx(1, abs=1e-6)


def test_components_hold_the_most_variance() -> None:
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(200, 2)) @ np.array([[3, 3, 0, 0], [0, 0, 1, -1.0]]) + 5
    rows[0] = np.nan
    pca = Pca.fit([rows], 2)
    assert np.allclose(pca.components @ pca.components.T, np.eye(2))
    assert np.allclose(np.abs(pca.components[0]), [0.5**0.5, 0.5**0.5, 0, 0], atol=0.05)
    back = pca.apply(rows[1:]) @ pca.components + pca.mean
    assert np.allclose(back, rows[1:])
    assert np.isnan(pca.apply(rows[:1])).all()


def test_folds_keep_signers_together() -> None:
    groups = [f"signer {number % 5}" for number in range(23)]
    places = folds(groups, 3)
    assert len({(group, int(place)) for group, place in zip(groups, places, strict=True)}) == 5
    assert np.bincount(places).max() - np.bincount(places).min() <= 5
    assert folds(["one", "one"], 3).tolist() == [0, 0]


def test_all_features_can_be_used() -> None:
    assert set(Settings().features) == set(FEATURES)


@pytest.mark.parametrize("chains", [None, 2])
def test_long_videos_are_cut_where_nothing_is_annotated(chains: int | None) -> None:
    lengths = (2000, 900, 1)
    rows = [np.arange(2.0 * length).reshape(length, 2) for length in lengths]
    tags = [np.ones((chains or 1, length), np.int64) for length in lengths]
    tags[0][:, 500:700] = 0
    tags[0][:1, 1000:] = 0
    shaped = tags if chains else [tag[0] for tag in tags]
    parts, labels = in_pieces(rows, shaped)
    assert [len(part) for part in parts] == ([699, 900, 401, 900, 1] if chains else [699, 899, 402, 900, 1])
    assert np.array_equal(np.concatenate(parts), np.concatenate(rows))
    assert np.array_equal(np.concatenate(labels, axis=-1), np.concatenate(shaped, axis=-1))
