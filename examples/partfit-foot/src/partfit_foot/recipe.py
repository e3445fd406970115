"""The recipe `foot`: 12 stickers on the foot, a model for each side."""

from __future__ import annotations

from partfit.fitting import Stage
from partfit.recipe import FitSettings, Recipe

_RIGID = ("global_orient", "transl")

#: Everything is free: the motion of the heel, identity and all angles. The priors weigh a little less than
#: once: stickers are seen better than their scales say.
FOOT = Recipe(
    part="foot",
    detector="foot-stickers",
    landmarker="foot-stickers",
    model="foot",
    settings=FitSettings(
        (Stage(_RIGID, 10), Stage(("betas", "foot_pose", *_RIGID), 40)),
        prior_weights={"betas": 0.7, "foot_pose": 0.7},
    ),
)
