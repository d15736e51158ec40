"""Scripted sentences: gold segments agree with the curves, corpora stay apart and stay as they are."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fyc.asl.synthetic.contrasts import CONTRASTS, Contrast
from fyc.asl.synthetic.corpora import CORPORA
from fyc.asl.synthetic.expression import BROWS
from fyc.asl.synthetic.grammar import PHRASES, SENTENCES
from fyc.asl.synthetic.heads import HEAD_SPLITS
from fyc.asl.synthetic.motion import Timeline, draw_style, envelope, wander
from fyc.asl.synthetic.script import EVENTS, MARKERS, PARAMETERS, Script, Segment
from fyc.asl.synthetic.seeds import generator
from fyc.asl.synthetic.textures import SOURCES

names = st.sampled_from(sorted(CORPORA))


def sentences(corpus: str, count: int = 28) -> list[Script]:
    chosen = CORPORA[corpus]
    return [chosen.sentence(number) for number in range(0, len(chosen), max(len(chosen) // count, 1))]


@given(st.integers(1, 20), st.integers(1, 15), st.integers(0, 20), st.integers(1, 15))
def test_envelopes_have_the_phases_of_their_segment(start: int, rise: int, core: int, fall: int) -> None:
    segment = Segment("event", "blink", start, start + rise, start + rise + core, start + rise + core + fall)
    shape = envelope(80, segment)
    assert np.all(shape[:start] == 0)
    assert np.all(shape[segment.end :] == 0)
    assert np.all(shape[start : segment.end] > 0)
    assert np.allclose(shape[segment.core : segment.offset], 1)
    assert np.all(np.diff(shape[: segment.core]) >= 0)
    assert np.all(np.diff(shape[segment.offset : segment.end]) <= 0)


@pytest.mark.parametrize("corpus", sorted(CORPORA))
def test_segments_are_in_order_and_within_the_clip(corpus: str) -> None:
    for script in sentences(corpus):
        assert script.curves.shape == (script.frames, len(PARAMETERS))
        assert np.isfinite(script.curves).all()
        for part in script.segments:
            assert 0 <= part.start < part.core <= part.offset < part.end <= script.frames
            assert part.label in (MARKERS if part.tier == "marker" else EVENTS)
        markers = [part for part in script.segments if part.tier == "marker"]
        assert all(one.end <= other.start for one, other in pairwise(markers))
        assert [part.label for part in markers] == [phrase for phrase in script.phrases if phrase != "statement"]


def inner_brows(script: Script) -> np.ndarray:
    mean: np.ndarray = np.mean([script.curve(name) for name in BROWS], axis=0)
    return mean


@pytest.mark.parametrize("corpus", sorted(CORPORA))
def test_brow_events_are_where_brows_move(corpus: str) -> None:
    seen = Counter[str]()
    for script in sentences(corpus):
        heights = inner_brows(script)
        quiet = np.ones(script.frames, bool)
        for part in script.segments:
            if part.label in ("brow-raise", "brow-lower"):
                seen[part.label] += 1
                sign = 1 if part.label == "brow-raise" else -1
                core = sign * heights[part.core : part.offset]
                if len(core) >= 4:
                    assert core.mean() > 0.04
                quiet[max(part.start - 4, 0) : part.end + 4] = False
        assert np.abs(heights[quiet]).max(initial=0) < 0.1
    assert min(seen.values()) > 5


@pytest.mark.parametrize("corpus", sorted(CORPORA))
def test_markers_have_their_cues(corpus: str) -> None:
    """Each marker does what the usual description says, seen on the curves alone."""
    seen = Counter[str]()
    for script in sentences(corpus, 60):
        heights, yaw, forward = inner_brows(script), script.curve("yaw"), script.curve("z")
        labels = [part.label for part in script.segments if part.tier == "event"]
        for part in script.segments:
            if part.tier != "marker":
                continue
            seen[part.label] += 1
            inside = slice(part.start, part.end)
            if part.label == "wh-question":
                assert heights[part.core : part.offset].mean() < -0.1
                assert "head-shake" in labels or "head-tilt" in labels
            elif part.label == "negation":
                turns = np.diff(np.sign(np.diff(yaw[inside])))
                assert np.count_nonzero(turns) >= 2
                assert np.ptp(yaw[inside]) > 5
            else:
                assert heights[part.core : part.offset].mean() > 0.12
            if part.label == "yes-no-question":
                assert forward[part.core : part.offset].max() - np.median(forward[: part.start]) > 0.5
            if part.label == "conditional":
                assert any(other.label == "blink" and abs(other.start - part.end) < 15 for other in script.segments)
    assert set(seen) == set(MARKERS)


def test_eyes_close_in_every_blink() -> None:
    for script in sentences("fit", 20):
        for part in script.segments:
            if part.label == "blink":
                assert script.curve("lid_left")[part.start : part.end].max() > 0.95


@given(names, st.integers(0, 111))
@settings(max_examples=15, deadline=None)
def test_the_same_number_is_the_same_sentence(corpus: str, number: int) -> None:
    one, other = CORPORA[corpus].sentence(number), CORPORA[corpus].sentence(number)
    assert one.name == other.name
    assert one.curves.tobytes() == other.curves.tobytes()
    assert (one.segments, one.shots, one.occluders, one.quality) == (
        other.segments, other.shots, other.occluders, other.quality
    )  # fmt: skip


def test_corpora_share_nothing() -> None:
    held = CORPORA["held-out"]
    assert held.brow_field == "B"
    assert {CORPORA[name].brow_field for name in ("fit", "check")} == {"A"}
    assert len({corpus.split for corpus in CORPORA.values()}) == len(CORPORA)
    assert {corpus.split for corpus in CORPORA.values()} == set(HEAD_SPLITS) == set(SOURCES)
    clips = [script.curves.tobytes() for corpus in CORPORA for script in sentences(corpus)]
    assert len(set(clips)) == len(clips)
    styles = [draw_style(corpus.split, signer) for corpus in CORPORA.values() for signer in range(corpus.signers)]
    assert len(set(styles)) == len(styles)


def test_every_signer_signs_every_sentence() -> None:
    for corpus in CORPORA.values():
        assert {corpus.sentence(number).phrases for number in range(14)} == set(SENTENCES)
        assert corpus.sentence(0).signer == corpus.sentence(corpus.sentences - 1).signer
    assert {phrase for sentence in SENTENCES for phrase in sentence} == set(PHRASES)


def test_a_sentence_beyond_the_corpus_is_refused() -> None:
    with pytest.raises(IndexError, match="check has 112"):
        CORPORA["check"].sentence(112)


def test_corpora_are_those_that_were_committed() -> None:
    """Whoever changes these numbers makes another bench: all figures must be measured again."""
    sizes = {name: (len(corpus), sum(script.frames for script in corpus)) for name, corpus in CORPORA.items()}
    assert sizes == {"fit": (480, 59871), "check": (112, 13469), "held-out": (240, 30226)}
    movement = {name: float(np.abs(corpus.sentence(7).curves).sum()) for name, corpus in CORPORA.items()}
    assert movement == pytest.approx({"fit": 1496.274, "check": 1717.165, "held-out": 2392.771}, rel=1e-4)
    labels = Counter(part.label for script in CORPORA["held-out"] for part in script.segments if part.tier == "marker")
    assert labels == {"conditional": 52, "negation": 68, "topic": 69, "wh-question": 57, "yes-no-question": 48}


@pytest.mark.parametrize("contrast", CONTRASTS, ids=lambda contrast: contrast.name)
def test_pairs_differ_in_one_cue(contrast: Contrast) -> None:
    allowed = {
        "wh-negation": BROWS,
        "topic-yes-no": ("pitch", "z"),
        "conditional-topic": BROWS,
        "conditional-yes-no": ("lid_left", "lid_right", "mouth", "spread", "puff", "pitch"),
    }[contrast.name]
    for corpus in CORPORA.values():
        for signer in (0, 3):
            for index in range(3):
                one, other = corpus.pair(contrast, signer, index)
                assert one.frames == other.frames
                assert (one.shots, one.quality, one.signer) == (other.shots, other.quality, other.signer)
                apart = np.abs(one.curves - other.curves).max(axis=0)
                differing = {name for name, size in zip(PARAMETERS, apart, strict=True) if size > 0}
                assert differing <= set(allowed)
                assert apart.max() > 0.15
                marked = [[part.label for part in side.segments if part.tier == "marker"] for side in (one, other)]
                assert marked == [[contrast.markers[0]], [contrast.markers[1]]]


def test_what_follows_differs_only_after_the_clause() -> None:
    contrast = next(contrast for contrast in CONTRASTS if contrast.name == "conditional-yes-no")
    one, other = CORPORA["fit"].pair(contrast, 1, 0)
    (marker,) = [part for part in one.segments if part.tier == "marker"]
    assert np.array_equal(one.curves[: marker.offset - 8], other.curves[: marker.offset - 8])


def test_all_pairs_come_once() -> None:
    check = CORPORA["check"]
    names = [script.name for pair in check.contrast(CONTRASTS[0]) for script in pair]
    assert len(set(names)) == len(names) == 2 * check.signers * check.pairs


def test_noise_is_smooth_and_has_unit_variance() -> None:
    noise = wander(generator("test"), 20_000, 10)
    assert noise.std() == pytest.approx(1, rel=0.1)
    assert np.abs(np.diff(noise)).max() < 0.5


def test_a_swing_has_its_rate_and_size() -> None:
    timeline = Timeline(4, 30)
    segment = timeline.mark("event", "head-shake", 0.5, 3.5, 0.1, 0.1)
    timeline.swing("yaw", segment, 8, 2.5, 0.5, 0.0)
    yaw = timeline.curves[:, PARAMETERS.index("yaw")]
    spectrum = np.abs(np.fft.rfft(yaw * np.hanning(len(yaw))))
    assert np.fft.rfftfreq(len(yaw), 1 / 30)[spectrum.argmax()] == pytest.approx(2.5, abs=0.3)
    assert 6.5 < yaw.max() <= 8
    assert yaw[segment.start : segment.start + 30].max() > 1.2 * yaw[segment.end - 30 : segment.end].max()
