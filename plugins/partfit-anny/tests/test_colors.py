"""The natural colours of the head."""

import numpy as np

import partfit
from partfit_anny.head import BROW


def test_brows_are_dark_and_lie_above_the_eyes_alike_on_both_sides():
    head = partfit.create("model", "anny-head")
    vertices, colors = head.arrays.v_template[: head.topology.n_vertices], head.topology.colors
    brows = vertices[(colors == BROW).all(axis=1)]
    left, right = (vertices[head.topology.region(f"{side}_eyeball")] for side in ("left", "right"))
    on_the_left = brows[:, 0] > 0
    assert max(BROW) < 0.3
    assert on_the_left.sum() == (~on_the_left).sum() >= 5
    assert brows[:, 1].min() > max(left[:, 1].max(), right[:, 1].max())
    assert abs(brows[on_the_left, 0].mean() - left[:, 0].mean()) < 0.01
    np.testing.assert_allclose(
        brows[on_the_left].mean(axis=0), brows[~on_the_left].mean(axis=0) * [-1, 1, 1], atol=1e-3
    )
