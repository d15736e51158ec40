"""Expressions of synthetic heads: what a parameter says is what the mesh does."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fyc.asl.face.bundle import Bundle
from fyc.asl.synthetic.expression import BROWS, EXPRESSIONS, BrowField, ExpressionModel
from fyc.asl.synthetic.heads import make_head

FIELDS: tuple[BrowField, ...] = ("A", "B")
centimetres = st.floats(-0.7, 0.7)


@pytest.fixture(scope="module")
def models(face_bundle: Bundle) -> dict[str, ExpressionModel]:
    mesh = face_bundle.mesh
    return {field: ExpressionModel(mesh, make_head(mesh, "fit", 2).face, field) for field in FIELDS}


def parameters(**values: float) -> np.ndarray:
    return np.array([values.get(name, 0.0) for name in EXPRESSIONS])


@pytest.mark.parametrize("field", FIELDS)
@given(heights=st.tuples(centimetres, centimetres, centimetres, centimetres))
@settings(max_examples=30, deadline=None)
def test_brows_are_as_high_as_asked(models: dict[str, ExpressionModel], field: str, heights: tuple[float, ...]) -> None:
    model = models[field]
    points = model.deform(parameters(**dict(zip(BROWS, heights, strict=True))))
    assert model.brow_heights(points) == pytest.approx(heights, abs=0.01)


@pytest.mark.parametrize("field", FIELDS)
def test_one_side_moves_alone(models: dict[str, ExpressionModel], field: str) -> None:
    model = models[field]
    moved = model.deform(parameters(brow_inner_left=0.5, brow_outer_left=0.5, lid_left=1)) - model.rest
    right = model.rest[:, 0] < -1
    assert np.abs(moved[right]).max() < 0.02
    assert np.abs(moved[~right]).max() > 0.4


def test_the_fields_differ(models: dict[str, ExpressionModel]) -> None:
    raised = parameters(**dict.fromkeys(BROWS, 0.4))
    for sign in (1, -1):
        a, b = (models[field].deform(sign * raised) for field in FIELDS)
        assert np.linalg.norm(a - b, axis=1).max() > 0.08
    assert models["A"].brow_heights(models["A"].deform(raised)) == pytest.approx([0.4] * 4, abs=0.01)


@pytest.mark.parametrize("field", FIELDS)
def test_eyes_close_and_open_in_steps(models: dict[str, ExpressionModel], field: str) -> None:
    model = models[field]
    apertures = [model.eye_apertures(model.deform(parameters(lid_right=part))) for part in (0, 0.5, 1)]
    assert apertures[0][1] > 0.4
    assert apertures[1][1] == pytest.approx(apertures[0][1] / 2, rel=0.1)
    assert apertures[2][1] < 0.02
    assert apertures[2][0] == pytest.approx(apertures[0][0], abs=0.02)


def test_the_mouth_opens_by_what_is_asked(models: dict[str, ExpressionModel]) -> None:
    model = models["A"]
    closed = model.mouth_opening(model.deform(parameters()))
    opened = model.mouth_opening(model.deform(parameters(mouth=1.5)))
    assert opened - closed == pytest.approx(1.5, abs=0.15)
    chin = (model.deform(parameters(mouth=1.5)) - model.rest)[152]
    assert chin[1] < -0.8


@pytest.mark.parametrize(
    ("name", "vertex", "axis", "sign"), [("spread", 308, 0, 1), ("puff", 425, 2, 1), ("nose", 279, 1, 1)]
)
def test_the_rest_moves_where_it_should(
    models: dict[str, ExpressionModel], name: str, vertex: int, axis: int, sign: int
) -> None:
    model = models["A"]
    moved = model.deform(parameters(**{name: 0.5})) - model.rest
    assert sign * moved[vertex, axis] > 0.1
    assert np.abs(moved[10]).max() < 0.05


def test_many_frames_at_once(models: dict[str, ExpressionModel]) -> None:
    rows = np.random.default_rng(0).uniform(-0.5, 0.5, (5, len(EXPRESSIONS)))
    together = models["B"].deform(rows)
    assert np.allclose(together, [models["B"].deform(row) for row in rows])
