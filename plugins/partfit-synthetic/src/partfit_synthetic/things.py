"""What may stand around a part: meshes with a look of their own, in the frame of the camera."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import attrs
import numpy as np
from jaxtyping import Float

#: A colour, or an opacity, of each vertex; or one that is computed for each point of the surface that is
#: seen, from its `rest` position: (k, 3) float32 -> (k, 3) or (k,) float32. It draws nothing: equal points
#: have equal colours.
Texture: TypeAlias = Callable[[np.ndarray], np.ndarray]


def single(value: np.ndarray) -> Float[np.ndarray, "*shape"]:
    """The value as float32, as textures keep what they compute with: with doubles they take twice as long."""
    return np.asarray(value, dtype=np.float32)


@attrs.frozen(eq=False)
class Thing:
    """A mesh that is rendered with the part.

    Attributes:
        name: What it is, for example `glasses`; names the attribute of a sample.
        vertices: (n, 3) camera frame, metres.
        faces: (f, 3) vertex indices; both sides are drawn.
        albedo: (n, 3) linear RGB in [0, 1], or a texture over `rest`.
        rest: (n, 3) positions that textures are computed from, in any frame; the vertices by default.
        opacity: Of all of it, of each vertex (n,), or a texture over `rest`. What is 1 throughout is cast
            with the part; anything else is laid over it by depth, nearest layers only.
        gloss: Strength of its highlights: 0 is matt, 1 is polished.
        occludes: Whether what it covers counts as hidden. Lenses and thin wisps of hair do not.
        casts_shadow: Whether it keeps light from what lies behind it.
    """

    name: str
    vertices: np.ndarray
    faces: np.ndarray
    albedo: np.ndarray | Texture
    rest: np.ndarray = attrs.field(kw_only=True)
    opacity: float | np.ndarray | Texture = attrs.field(default=1.0, kw_only=True)
    gloss: float = attrs.field(default=0.1, kw_only=True)
    occludes: bool = attrs.field(default=True, kw_only=True)
    casts_shadow: bool = attrs.field(default=True, kw_only=True)

    @rest.default
    def _as_it_stands(self) -> np.ndarray:
        return self.vertices

    @property
    def opaque(self) -> bool:
        """Whether nothing is seen through it."""
        return isinstance(self.opacity, float | int) and self.opacity >= 1.0
