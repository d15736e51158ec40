"""Textures of a face, against plain counting."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fyc.asl.face.bundle import Bundle
from fyc.asl.face.frontal import FrontalView
from fyc.asl.face.texture import DIRECTIONS, LEVELS, PATTERNS, Descriptor, TexturePyramid, local_patterns

pytestmark = pytest.mark.assets

SIZE = 128


def noise(seed: int, size: int = SIZE) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (size, size), dtype=np.uint8)


def everywhere(image: np.ndarray) -> FrontalView:
    return FrontalView(image, np.ones(image.shape[:2], bool))


@pytest.fixture(scope="module", params=["lbp", "gradients"])
def pyramid(request: pytest.FixtureRequest, face_bundle: Bundle) -> TexturePyramid:
    descriptor: Descriptor = request.param
    return TexturePyramid(face_bundle.mesh, SIZE, descriptor=descriptor)


@given(st.integers(0, 2**32 - 1))
def test_patterns_pixel_by_pixel(seed: int) -> None:
    image = noise(seed, 7)
    classes, _ = local_patterns(image)
    around = ((-1, -1), (-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1), (0, -1))
    names: dict[str, int] = {}
    for row in range(1, 6):
        for column in range(1, 6):
            ring = [image[row + r, column + c] >= image[row, column] for r, c in around]
            changes = sum(ring[i] != ring[i - 1] for i in range(8))
            text = "".join("01"[int(value)] for value in ring)
            if changes > 2:
                assert classes[row, column] == PATTERNS - 1
            else:
                assert names.setdefault(text, classes[row, column]) == classes[row, column] < PATTERNS - 1
    assert len(set(names.values())) == len(names)


def test_all_58_patterns_have_their_class() -> None:
    """Each ring of neighbours with at most two changes, around a grey pixel."""
    seen = set()
    for length in range(9):
        for start in range(8):
            ring = np.zeros(8, int)
            ring[[(start + i) % 8 for i in range(length)]] = 255
            a, b, c, d, e, f, g, h = ring
            picture = np.array([[a, b, c], [h, 128, d], [g, f, e]], np.uint8)
            seen.add(int(local_patterns(picture)[0][1, 1]))
    assert seen == set(range(58))


def test_light_does_not_change_patterns() -> None:
    image = noise(0) // 2
    assert np.array_equal(local_patterns(image)[0], local_patterns(image + 60)[0])


def test_histograms_of_every_cell(pyramid: TexturePyramid) -> None:
    """Each sums to one, and the one of a whole part is the weighted mean of its cells."""
    description = pyramid.describe(everywhere(noise(1)))
    cells = sum(level**2 for level in LEVELS)
    assert description.shape == (pyramid.length,) == (4 * cells * pyramid.bins,)
    histograms = description.reshape(len(pyramid.parts), cells, pyramid.bins)
    assert np.allclose(histograms.sum(axis=2), 1, atol=1e-4)
    assert pyramid.bins == (PATTERNS if pyramid.descriptor == "lbp" else DIRECTIONS)
    for whole, *rest in histograms:
        assert np.allclose(whole, np.mean(rest[:4], axis=0), atol=0.02)


def test_a_cell_sees_its_own_place_only(pyramid: TexturePyramid) -> None:
    image = noise(2)
    part = pyramid.parts[1]
    other = image.copy()
    row, column = (part.top + part.bottom) // 2 + 6, part.right - 6
    other[row : row + 4, column - 4 : column] = 0
    before, after = pyramid.describe(everywhere(image)), pyramid.describe(everywhere(other))
    changed = np.flatnonzero((before != after).reshape(-1, pyramid.bins).any(axis=1))
    first = 21
    assert first in changed  # the part as a whole
    assert set(changed[changed < 2 * first]) <= {first, first + 4, *range(first + 5, first + 21)}
    assert first + 1 not in changed  # its upper left quarter


def test_what_is_invisible_does_not_count(pyramid: TexturePyramid) -> None:
    image = noise(3)
    visible = np.ones((SIZE, SIZE), bool)
    visible[:, : SIZE // 2] = False
    hidden = image.copy()
    hidden[:, : SIZE // 2] = 17
    one = pyramid.describe(FrontalView(image, visible))
    two = pyramid.describe(FrontalView(hidden, visible))
    assert np.array_equal(one, two)
    nothing = pyramid.describe(FrontalView(image, np.zeros_like(visible)))
    assert not nothing.any()


def test_stripes_have_a_direction(face_bundle: Bundle) -> None:
    pyramid = TexturePyramid(face_bundle.mesh, SIZE, descriptor="gradients")
    stripes = np.tile(np.array([0, 0, 200, 200], np.uint8), (SIZE, SIZE // 4))
    histograms = pyramid.describe(everywhere(stripes)).reshape(-1, DIRECTIONS)
    assert np.allclose(histograms[:, 0], 1)
    turned = pyramid.describe(everywhere(stripes.T.copy())).reshape(-1, DIRECTIONS)
    assert np.allclose(turned[:, DIRECTIONS // 2], 1)


def test_colour_counts_as_grey(pyramid: TexturePyramid) -> None:
    image = noise(4)
    assert np.array_equal(
        pyramid.describe(everywhere(image)), pyramid.describe(everywhere(np.stack([image] * 3, axis=2)))
    )
