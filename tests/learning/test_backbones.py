"""Backbones: features of the shape that is told, of every kind of timm model, and errors that help."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file

from partfit.errors import ConfigError
from partfit.learning.backbones import IMAGENET_MEAN, Backbone, BackboneConfig
from partfit.learning.heads import FeatureShape

SWIN = "swin_tiny_patch4_window7_224"
VIT = "vit_tiny_patch16_224"


def built(name: str, resolution: int = 64, **options) -> Backbone:
    torch.manual_seed(0)
    return Backbone(BackboneConfig(name, **options), resolution).eval()


@pytest.mark.parametrize(
    ("name", "resolution", "vector", "spatial"),
    [
        ("resnet10t", 96, (512, 1, 1), (512, 3, 3)),
        ("mobilenetv3_small_050", 64, (1024, 1, 1), (1024, 2, 2)),
        ("convnext_atto", 64, (320, 1, 1), (320, 2, 2)),  # normalised after pooling
        (SWIN, 128, (768, 1, 1), (768, 4, 4)),  # channels last
        (VIT, 48, (192, 1, 1), (192, 3, 3)),  # tokens, the first of which is no place
    ],
)
def test_features_are_of_the_shape_that_is_told(name, resolution, vector, spatial):
    crops = torch.rand(2, 3, resolution, resolution)
    for kind, shape in (("vector", vector), ("spatial", spatial)):
        backbone = built(name, resolution, features=kind)
        assert backbone.shape == FeatureShape(*shape)
        features = backbone(crops)
        assert features.shape == (2, *shape)
        assert features.dtype == torch.float32


@pytest.mark.parametrize(("name", "options"), [("resnet10t", {}), (SWIN, {}), (VIT, {"global_pool": "avg"})])
def test_a_vector_is_the_mean_of_the_map(name, options):
    """Of models that pool so: channels are told from rows and columns, and tokens of places from others."""
    crops = torch.rand(2, 3, 64, 64)
    vector = built(name, options={**options, "fc_norm": False} if options else {})
    spatial = built(name, features="spatial", options={"fc_norm": False} if options else {})
    spatial.load_state_dict(vector.state_dict())
    torch.testing.assert_close(
        spatial(crops).mean(dim=(2, 3)), vector(crops)[:, :, 0, 0], rtol=1e-4, atol=1e-4
    )


def test_a_map_lies_as_the_crop_does():
    """A bright spot at the top right changes the features most at the top right."""
    spots = torch.zeros(2, 3, 96, 96)
    spots[1, :, 8:24, 72:88] = 1.0
    for name in ("resnet10t", VIT):
        dark, bright = built(name, 96, features="spatial")(spots)
        change = (bright - dark).norm(dim=0)
        row, column = divmod(int(change.argmax()), change.shape[1])
        assert row < change.shape[0] / 3
        assert column >= change.shape[1] * 2 / 3


def test_crops_are_normalised_as_the_model_wants_it():
    assert built("resnet10t").mean.flatten().tolist() == pytest.approx(IMAGENET_MEAN)
    vit = built(VIT)
    assert vit.mean.flatten().tolist() == vit.std.flatten().tolist() == [0.5, 0.5, 0.5]
    assert {"mean", "std"} <= set(vit.state_dict())  # kept with the weights
    crops = torch.rand(1, 3, 64, 64)
    torch.testing.assert_close(vit(crops)[:, :, 0, 0], vit.model(2 * crops - 1))


def test_an_unknown_name_is_answered_with_known_ones():
    with pytest.raises(ConfigError, match=r"'resnet5O'.*Did you mean 'resnet50'\?"):
        built("resnet5O")
    with pytest.raises(ConfigError, match=f"Names that begin so: {SWIN}"):
        built("swin_tiny")


def test_an_option_that_timm_refuses_is_named():
    with pytest.raises(ConfigError, match=r"timm cannot make 'resnet10t'.*'depth'"):
        built("resnet10t", options={"depth": 3})


@pytest.mark.parametrize(
    ("name", "bad", "good"), [(VIT, 8, "16"), ("maxvit_rmlp_pico_rw_256", 100, "96, 128")]
)
def test_a_size_that_a_model_cannot_see_is_answered_with_sizes_that_it_can(name, bad, good):
    with pytest.raises(
        ConfigError, match=f"cannot see crops of {bad} x {bad}.*Sizes near it that work:.*{good}"
    ):
        built(name, bad)


def test_a_map_that_is_none_is_refused():
    """Tokens that fill no square, as those of a model that does not tell of its class token."""
    backbone = built(VIT, features="spatial")
    backbone.model.num_prefix_tokens = 0
    with pytest.raises(ConfigError, match=r"one of 17 tokens\. Use features = 'vector'"):
        backbone(torch.zeros(1, 3, 64, 64))


def test_pretrained_weights_are_timms(tmp_path):
    torch.manual_seed(1)
    other = built("resnet10t")
    file = tmp_path / "weights.safetensors"
    save_file({name: value.contiguous() for name, value in other.model.state_dict().items()}, file)
    overlay = {"pretrained_cfg_overlay": {"file": str(file), "num_classes": 0}}
    backbone = built("resnet10t", pretrained=True, options=overlay)
    for name, value in backbone.model.state_dict().items():
        torch.testing.assert_close(value, other.model.state_dict()[name])


def test_what_a_model_is_made_of_may_stand_in_a_file_but_not_what_it_reads():
    options = {"drop_rate": 0.1, "act_layer": "gelu", "channels": [8, 16], "block_args": {"attn_layer": "se"}}
    weights = {"checkpoint_path": "a", "cache_dir": "b", "pretrained_cfg_overlay": {"file": "c"}}
    config = BackboneConfig("resnet18", True, options=options | weights)
    with pytest.raises(ConfigError, match=r"backbone\.options\.checkpoint_path: expected.*found 'a'"):
        config.check_foreign()
    assert config.without_weights() == BackboneConfig("resnet18", options=options)
    config.without_weights().check_foreign()


def test_missing_pretrained_weights_are_an_error_that_says_what_to_do(tmp_path):
    missing = {"pretrained_cfg_overlay": {"file": str(tmp_path / "missing.safetensors")}}
    with pytest.raises(ConfigError, match=r"backbone.pretrained:.*HF_HOME.*pretrained = false"):
        built("resnet10t", pretrained=True, options=missing)
