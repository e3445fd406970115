import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from partfit.errors import InputError, ShapeError
from partfit.geometry.camera import (
    Camera,
    focal_from_diagonal,
    focal_from_field_of_view,
    project_points,
    projection_jacobian,
    unproject_points,
)

finite = st.floats(-2, 2, allow_nan=False)
positive = st.floats(0.1, 10)


def draw_points(x, y, z):
    return torch.tensor([[[x, y, z]]], dtype=torch.float64)


@given(finite, finite, positive, st.floats(50, 5000))
def test_unprojection_inverts_projection(x, y, z, focal):
    points = draw_points(x, y, z)
    f, c = torch.tensor([focal], dtype=torch.float64), torch.tensor([[319.5, 239.5]], dtype=torch.float64)
    pixels = project_points(points, f, c)
    torch.testing.assert_close(unproject_points(pixels, points[..., 2], f, c), points, atol=1e-12, rtol=1e-12)


@given(finite, finite, positive)
def test_projection_jacobian_is_the_derivative(x, y, z):
    points = draw_points(x, y, z)
    f, c = torch.tensor([700.0], dtype=torch.float64), torch.zeros(1, 2, dtype=torch.float64)
    numeric = torch.func.jacfwd(lambda p: project_points(p, f, c))(points)[0, 0, :, 0, 0]
    torch.testing.assert_close(projection_jacobian(points, f)[0, 0], numeric, atol=1e-9, rtol=1e-12)


def test_a_point_on_the_axis_falls_between_the_middle_pixels():
    camera = Camera.for_images([(640, 480)])
    assert camera.project(torch.tensor([[[0.0, 0.0, 1.0]]]))[0, 0].tolist() == [319.5, 239.5]
    assert camera.focal.tolist() == [800.0]


def test_right_and_down_are_positive():
    camera = Camera.for_images([(100, 100)], [50.0])
    assert camera.project(torch.tensor([[[1.0, 2.0, 10.0]]]))[0, 0].tolist() == [54.5, 59.5]


def test_points_behind_the_camera_project_to_nan():
    camera = Camera.for_images([(100, 100)])
    assert camera.project(torch.tensor([[[0.1, 0.1, 0.0], [0.1, 0.1, -1.0]]])).isnan().all()


def test_focal_rules():
    assert focal_from_diagonal(640, 480) == 800
    assert focal_from_field_of_view(640, 480, math.pi / 2) == pytest.approx(400)
    # dropping the field of view (thesis eq. 3.38) is a diagonal angle of 2 atan(1 / 2)
    assert focal_from_field_of_view(640, 480, 2 * math.atan(0.5)) == pytest.approx(800)
    with pytest.raises(InputError, match="between 0 and pi"):
        focal_from_field_of_view(640, 480, 200)


def test_mixed_known_and_unknown_focals():
    camera = Camera.for_images([(640, 480), (30, 40)], [700.0, None])
    assert camera.focal.tolist() == [700, 50]
    assert len(camera) == 2
    assert camera.select([1]).focal.tolist() == [50]


@pytest.mark.parametrize("focal", [0.0, -1.0, math.nan, math.inf])
def test_impossible_focal_lengths_are_refused(focal):
    with pytest.raises(InputError, match="finite and > 0"):
        Camera(torch.tensor([focal]), torch.zeros(1, 2), torch.ones(1, 2))


def test_shapes_are_checked():
    with pytest.raises(ShapeError, match=r"points.*n, 3"):
        project_points(torch.zeros(5, 2), torch.ones(()), torch.zeros(2))
    with pytest.raises(ShapeError, match="principal"):
        Camera(torch.ones(2), torch.zeros(1, 2), torch.ones(2, 2))
    with pytest.raises(ShapeError, match="pixels"):
        unproject_points(torch.zeros(5, 3), torch.ones(5), torch.ones(()), torch.zeros(2))
