import numpy as np

from partfit_mediapipe.hand_scheme import COUNT, FINGERS, hand21


def test_the_order_is_wrist_then_thumb_to_little_finger():
    scheme = hand21()
    assert (scheme.name, scheme.version, len(scheme)) == ("hand21", "1", COUNT)
    assert scheme.names[:6] == ("wrist", "thumb_cmc", "thumb_mcp", "thumb_ip", "thumb_tip", "index_mcp")
    assert scheme.names[9] == "middle_mcp"
    assert scheme.names[17:] == ("little_mcp", "little_pip", "little_dip", "little_tip")
    assert len(set(scheme.names)) == COUNT


def test_edges_run_along_each_finger_from_the_wrist():
    scheme = hand21()
    parents = {child: parent for parent, child in scheme.edges.tolist()}
    assert sorted(parents) == list(range(1, COUNT))
    for finger in FINGERS:
        point, steps = scheme.names.index(f"{finger}_tip"), 0
        while point:
            assert scheme.names[point].startswith(finger)
            point, steps = parents[point], steps + 1
        assert steps == 4


def test_a_flipped_hand_shows_the_same_points():
    scheme = hand21()
    assert np.array_equal(scheme.mirror, np.arange(COUNT))
    assert scheme.mirror_scheme is None
