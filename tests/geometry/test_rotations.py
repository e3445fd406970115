import math

import numpy as np
import pytest
import torch
from hypothesis import given
from scipy.spatial.transform import Rotation

from partfit.errors import ShapeError
from partfit.geometry.rotations import (
    canonical_rotvec,
    hat,
    left_jacobian,
    matrix_to_rotvec,
    rotvec_to_matrix,
)
from partfit.testing.strategies import rotvecs


def tensor(array):
    return torch.as_tensor(np.asarray(array, dtype=np.float64))


@given(rotvecs())
def test_exponential_equals_scipy(r):
    np.testing.assert_allclose(rotvec_to_matrix(tensor(r)), Rotation.from_rotvec(r).as_matrix(), atol=1e-14)


@given(rotvecs())
def test_logarithm_inverts_the_exponential(r):
    matrix = rotvec_to_matrix(tensor(r))
    back = matrix_to_rotvec(matrix)
    assert back.norm() <= math.pi + 1e-12
    torch.testing.assert_close(rotvec_to_matrix(back), matrix, atol=1e-14, rtol=0)


@given(rotvecs())
def test_logarithm_returns_the_short_rotvec_itself(r):
    length = np.linalg.norm(r)
    if length < math.pi - 1e-6:
        torch.testing.assert_close(
            matrix_to_rotvec(rotvec_to_matrix(tensor(r))), tensor(r), atol=1e-13, rtol=0
        )


def test_a_quarter_turn_about_z_takes_x_to_y():
    matrix = rotvec_to_matrix(torch.tensor([0.0, 0.0, math.pi / 2], dtype=torch.float64))
    torch.testing.assert_close(matrix @ tensor([1, 0, 0]), tensor([0, 1, 0]), atol=1e-15, rtol=0)


@pytest.mark.parametrize("axis", [[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0], [1, -2, 3]])
@pytest.mark.parametrize("angle", [0.0, 1e-300, 1e-8, 1e-4, math.pi - 1e-4, math.pi - 1e-8, math.pi])
def test_exact_at_zero_and_near_half_turns(axis, angle):
    r = np.array(axis) / np.linalg.norm(axis) * angle
    back = matrix_to_rotvec(rotvec_to_matrix(tensor(r))).numpy()
    # near a half turn the rotation fixes the rotvec up to the sign of the axis
    error = min(np.abs(back - r).max(), np.abs(back + r).max() if angle > 3 else np.inf)
    assert error <= 1e-14 + 1e-15 * angle


@pytest.mark.parametrize("function", [rotvec_to_matrix, left_jacobian])
@pytest.mark.parametrize("length", [0.0, 1e-8, 0.999999, 1.000001, 3.1])
def test_derivatives_are_smooth(function, length):
    direction = tensor([0.6, -0.64, 0.48])
    r = direction * length
    step = 1e-6
    numeric = (function(r + step * direction) - function(r - step * direction)) / (2 * step)
    exact = torch.func.jvp(function, (r,), (direction,))[1]
    torch.testing.assert_close(exact, numeric, atol=1e-9, rtol=0)


@pytest.mark.parametrize("function", [rotvec_to_matrix, left_jacobian])
@pytest.mark.parametrize("length", [0.0, 1e-8, 0.999, 1.001, 3.1])
def test_second_derivatives_are_smooth(function, length):
    """As a Newton step of a fit takes them, whose frozen joints are at exactly 0."""
    r = tensor([0.6, -0.64, 0.48]) * length
    assert torch.autograd.gradgradcheck(lambda r: function(r).sum(), r.requires_grad_())


@given(rotvecs())
def test_left_jacobian_is_the_derivative_of_the_exponential(r):
    r = tensor(r)
    derivative = torch.func.jacfwd(rotvec_to_matrix)(r)  # (3, 3, 3)
    expected = torch.stack([hat(column) @ rotvec_to_matrix(r) for column in left_jacobian(r).T], dim=-1)
    torch.testing.assert_close(derivative, expected, atol=1e-11, rtol=0)


@given(rotvecs())
def test_canonical_rotvec_is_the_same_rotation(r):
    for turns in (0, 1, 3):
        length = np.linalg.norm(r)
        longer = r * (1 + 2 * math.pi * turns / length) if length > 1e-3 else r
        short = canonical_rotvec(tensor(longer))
        assert short.norm() <= math.pi + 1e-12
        torch.testing.assert_close(rotvec_to_matrix(short), rotvec_to_matrix(tensor(r)), atol=1e-12, rtol=0)


def test_float32_keeps_its_dtype_and_its_precision():
    r = torch.tensor([[1e-4, 2e-4, -1e-4], [1.0, 2.0, -1.0]])
    assert rotvec_to_matrix(r).dtype == torch.float32
    torch.testing.assert_close(matrix_to_rotvec(rotvec_to_matrix(r)), r, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("function", [hat, rotvec_to_matrix, left_jacobian, canonical_rotvec])
def test_a_wrong_shape_is_named(function):
    with pytest.raises(ShapeError, match=r"expected shape \(\.\.\., 3\), found \(2, 4\)"):
        function(torch.zeros(2, 4))


def test_a_wrong_matrix_shape_is_named():
    with pytest.raises(ShapeError, match="3, 3"):
        matrix_to_rotvec(torch.zeros(2, 3))
