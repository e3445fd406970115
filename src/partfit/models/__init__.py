"""Parametric models: parameters in, vertices and landmarks out."""

from partfit.models.base import (
    LandmarkFunction,
    Linearization,
    ParameterGroup,
    ParametricModel,
    Topology,
)
from partfit.models.contour import ContourEmbedding
from partfit.models.skinning import SkinnedModel, SkinningArrays

__all__ = [
    "ContourEmbedding",
    "LandmarkFunction",
    "Linearization",
    "ParameterGroup",
    "ParametricModel",
    "SkinnedModel",
    "SkinningArrays",
    "Topology",
]
