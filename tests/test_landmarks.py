import attrs
import numpy as np
import pytest

from partfit.errors import InputError, ShapeError
from partfit.landmarks import Detection, LandmarkEmbedding, LandmarkScheme, content_hash

SCHEME = LandmarkScheme("three", ["a", "b", "c"])


def embedding(**changes):
    fields = {"scheme": SCHEME, "topology": "plane", "indices": [[0], [1], [2]], "weights": np.ones((3, 1))}
    return LandmarkEmbedding(**{**fields, **changes})


def detection(confidence):
    return Detection(SCHEME, np.zeros((3, 2)), np.ones((3, 2)), confidence)


class TestScheme:
    def test_flips_of_a_symmetric_scheme(self):
        eyes = LandmarkScheme("eyes", ["left", "nose", "right"], mirror=[2, 1, 0])
        points = np.array([[70.0, 5.0], [50.0, 9.0], [30.0, 5.0]])
        flipped = (points * [-1, 1] + [99, 0])[eyes.mirror]
        np.testing.assert_array_equal(flipped, [[69, 5], [49, 9], [29, 5]])

    def test_flips_between_two_schemes_need_not_be_their_own_inverse(self):
        right = LandmarkScheme("right", ["thumb", "ring", "index"], mirror=[2, 0, 1], mirror_scheme="left")
        left = LandmarkScheme("left", ["index", "thumb", "ring"], mirror=[1, 2, 0], mirror_scheme="right")
        assert [right.names[i] for i in right.mirror] == list(left.names)
        assert [left.names[i] for i in left.mirror] == list(right.names)

    @pytest.mark.parametrize("partner", [None, "three"])
    def test_a_mirror_within_one_scheme_is_its_own_inverse(self, partner):
        with pytest.raises(InputError, match=r"'three' is not its own inverse.*`mirror_scheme`"):
            attrs.evolve(SCHEME, mirror=[1, 2, 0], mirror_scheme=partner)

    @pytest.mark.parametrize("mirror", [[0, 1, 3], [0, 1, -1], [0, 1, 1]])
    @pytest.mark.parametrize("partner", [None, "other"])
    def test_a_mirror_names_each_point_once(self, mirror, partner):
        with pytest.raises(InputError, match="must name each of its 3 points once"):
            attrs.evolve(SCHEME, mirror=mirror, mirror_scheme=partner)

    def test_a_mirror_has_an_entry_for_each_point(self):
        with pytest.raises(
            ShapeError, match=r"mirror of scheme 'three': expected shape \(3,\), found \(2,\)"
        ):
            attrs.evolve(SCHEME, mirror=[1, 0])

    def test_a_mirror_scheme_needs_a_mirror(self):
        with pytest.raises(InputError, match="has no mirror"):
            attrs.evolve(SCHEME, mirror_scheme="other")

    @pytest.mark.parametrize("field", ["triangles", "edges"])
    def test_drawings_stay_within_the_points(self, field):
        width = 3 if field == "triangles" else 2
        with pytest.raises(InputError, match=rf"{field} of scheme 'three' name a point outside 0\.\.2"):
            attrs.evolve(SCHEME, **{field: [[*range(1, width), 3]]})
        with pytest.raises(ShapeError, match=field):
            attrs.evolve(SCHEME, **{field: [0, 1, 2]})

    def test_positions_are_finite_points_in_space(self):
        known = attrs.evolve(SCHEME, positions=np.arange(9).reshape(3, 3))
        np.testing.assert_array_equal(known.positions, [[0, 1, 2], [3, 4, 5], [6, 7, 8]])
        assert not known.positions.flags.writeable
        with pytest.raises(
            ShapeError, match=r"positions of scheme 'three': expected shape \(3, 3\), found \(3, 2\)"
        ):
            attrs.evolve(SCHEME, positions=np.zeros((3, 2)))
        with pytest.raises(InputError, match="positions of scheme 'three' must be finite"):
            attrs.evolve(SCHEME, positions=np.full((3, 3), np.nan))

    def test_the_hash_is_of_name_version_and_length(self):
        assert SCHEME.hash == LandmarkScheme("three", ["x", "y", "z"]).hash
        assert SCHEME.hash == attrs.evolve(SCHEME, positions=np.ones((3, 3))).hash
        others = [
            attrs.evolve(SCHEME, name="tree"),
            attrs.evolve(SCHEME, version="2"),
            attrs.evolve(SCHEME, names=["a", "b"]),
        ]
        assert len({SCHEME.hash, *(other.hash for other in others)}) == 4


class TestEmbedding:
    def test_equal_content_has_an_equal_hash(self):
        assert embedding().hash == embedding(reliability=[1, 1, 1]).hash
        assert len(embedding().hash) == 16

    @pytest.mark.parametrize(
        "changes",
        [
            {"reliability": [1.0, 0.5, 1.0]},
            {"topology": "plain"},
            {"scheme": attrs.evolve(SCHEME, version="2")},
            {"indices": [[0], [2], [1]]},
            {"indices": [[0, 1], [1, 2], [2, 0]], "weights": np.full((3, 2), 0.5)},
        ],
        ids=["reliability", "topology", "scheme", "indices", "weights"],
    )
    def test_the_hash_sees_each_field(self, changes):
        """In both halves of the digest, so that no field has a few digits of its own."""
        one, other = embedding().hash, embedding(**changes).hash
        assert one[:8] != other[:8]
        assert one[8:] != other[8:]

    def test_negative_points_are_refused(self):
        with pytest.raises(InputError, match=r"embedding 'three' on 'plane' must refer .* from 0; found -1"):
            embedding(indices=[[0], [-1], [2]])

    def test_rows_sum_to_one(self):
        with pytest.raises(InputError, match="each sum to 1"):
            embedding(weights=[[1.0], [0.9], [1.0]])

    @pytest.mark.parametrize("value", [-0.1, 1.1, np.nan])
    def test_reliability_is_a_share(self, value):
        with pytest.raises(InputError, match=r"reliability of .* must lie in \[0, 1\]"):
            embedding(reliability=[1.0, value, 1.0])

    def test_shapes_are_checked(self):
        with pytest.raises(ShapeError, match=r"indices of embedding 'three' on 'plane'.*\(3, K\)"):
            embedding(indices=[0, 1, 2])
        with pytest.raises(ShapeError, match="weights"):
            embedding(weights=np.full((3, 2), 0.5))
        with pytest.raises(ShapeError, match="reliability"):
            embedding(reliability=[1.0])

    def test_apply_on_triangles(self):
        points = np.array([[0.0, 0.0, 0.0], [3.0, 0.0, 0.0], [0.0, 3.0, 0.0], [3.0, 3.0, 3.0]])
        rows = LandmarkEmbedding.on_triangles(
            LandmarkScheme("two", ["a", "b"]),
            "square",
            np.array([[0, 1, 2], [1, 3, 2]]),
            np.array([1, 0]),
            np.array([[1 / 3, 1 / 3, 1 / 3], [0.0, 0.0, 1.0]]),
            np.array([0.25, 1.0]),
        )
        np.testing.assert_allclose(rows.apply(points), [[2, 2, 1], [0, 3, 0]], atol=1e-15)
        np.testing.assert_array_equal(rows.reliability, [0.25, 1.0])


class TestDetection:
    @pytest.mark.parametrize("value", [-0.1, 1.001, np.nan, np.inf])
    def test_confidence_lies_between_0_and_1(self, value):
        with pytest.raises(InputError, match=rf"'three' detection .* \[0, 1\]; found {value} for point 'b'"):
            detection([1.0, value, 0.0])

    def test_the_ends_are_allowed(self):
        np.testing.assert_array_equal(detection([0.0, 0.5, 1.0]).confidence, [0, 0.5, 1])

    def test_shapes_are_checked(self):
        with pytest.raises(ShapeError, match=r"confidence of a 'three' detection.*\(3,\), found \(2,\)"):
            detection([1.0, 1.0])

    def test_the_box_encloses_the_known_points(self):
        points = [[1.0, 2.0], [np.nan, 0.0], [3.0, -4.0]]
        found = Detection(SCHEME, points, np.ones((3, 2)), np.ones(3))
        np.testing.assert_array_equal(found.box, [1, -4, 3, 2])
        assert found.usable.tolist() == [True, False, True]

    def test_a_resize_maps_points_scales_and_box(self):
        found = Detection(SCHEME, [[-0.5, 0.0], [9.5, 4.0], [4.0, 9.5]], np.ones((3, 2)), np.ones(3))
        half = found.mapped(0.5)
        np.testing.assert_allclose(half.points, [[-0.5, -0.25], [4.5, 1.75], [1.75, 4.5]])
        np.testing.assert_allclose(half.box, [-0.5, -0.25, 4.5, 4.5])
        np.testing.assert_allclose(half.scale, 0.5)

    def test_arrays_are_read_only(self):
        with pytest.raises(ValueError, match="read-only"):
            detection([1.0, 1.0, 1.0]).points[0] = 5


def test_content_hash_tells_kind_shape_order_and_texts_apart():
    zeros = np.zeros(6)
    parts = [
        (zeros,),
        (zeros.astype(int),),
        (zeros.reshape(2, 3),),
        (zeros[:3], zeros[3:]),
        (np.ones(6), zeros),
        (zeros, np.ones(6)),
        ("ab", "c"),
        ("a", "bc"),
    ]
    assert len({content_hash(*part) for part in parts}) == len(parts)
    assert content_hash(zeros.astype(np.float32)) == content_hash(zeros)
