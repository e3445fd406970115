"""The plugin interface: the one hook that a plugin implements, and what it returns.

A plugin is an installed distribution with an entry point in the group `partfit.plugins`. The entry point
names a module, and the module implements the hook `partfit_components`:

    from partfit.plugins import ComponentSpec, hookimpl

    @hookimpl
    def partfit_components() -> list[ComponentSpec]:
        return [
            ComponentSpec(
                kind="detector",
                name="whole-picture",
                target="partfit_whole.detector:WholePicture",
                summary="Takes the whole picture as one region",
                api_version=1,
            )
        ]

Discovery imports that module and calls the hook; it imports a `target` only when somebody asks for the
component. Keep the module light: it must import neither torch nor the code of its components.

`partfit plugins` lists what was found and what failed to load; `partfit check NAME` builds a component.
"""

from __future__ import annotations

import attrs
import pluggy

from partfit.component import API_VERSION

__all__ = ["API_VERSION", "ENTRY_POINT_GROUP", "KINDS", "ComponentSpec", "hookimpl", "partfit_components"]

#: The entry-point group that partfit reads.
ENTRY_POINT_GROUP = "partfit.plugins"

#: Each kind of component and the import string of the base class of its components.
KINDS: dict[str, str] = {
    "model": "partfit.models.base:ParametricModel",
    "detector": "partfit.landmarks:Detector",
    "landmarker": "partfit.landmarks:Landmarker",
    "embedding": "partfit.landmarks:LandmarkEmbedding",
    "fitter": "partfit.fitting.base:Fitter",
    "recipe": "partfit.recipe:Recipe",
    "head": "partfit.learning.heads:Head",
    "loss": "partfit.learning.losses:Loss",
    "dataset": "partfit.learning.datasets:Dataset",
}

hookspec = pluggy.HookspecMarker("partfit")

#: Decorator that marks a plugin's implementation of the hook.
hookimpl = pluggy.HookimplMarker("partfit")

_is_string = attrs.validators.instance_of(str)


@attrs.frozen
class ComponentSpec:
    """The declaration of one component: data only, so that listing components imports nothing heavy.

    A component whose declaration is at fault (unknown kind, another API version, a malformed name or
    target, a name declared twice) is left out, with the reason in `partfit plugins`; the plugin's other
    components stay.

    Attributes:
        kind: One of `KINDS`.
        name: How users ask for it, for example `anny-head`: lower-case letters and digits, joined by
            `-`, `_` or `.`. An embedding is named `topology/scheme`, after its topology and its landmark
            scheme, for example `anny-head/ibug68`. A recipe is named after its part, `face`, or, where it
            fits another model than the part's first choice, `part/model`, for example `face/flame`. No other
            name has a `/`. Unique within a kind and a distribution. Another distribution may claim the same
            name: users then say `distribution:name`.
        target: Import string `package.module:attribute` of one of
            a subclass of the kind's base class, built from its `Config`;
            an instance of the base class, for kinds that are data (`embedding`, `recipe`);
            a function without arguments that returns such an instance; a registry calls it once, on
            first use, and gives every user the same instance.
        summary: One line for listings.
        api_version: The version of this interface that the component was written for. State the number
            in your code: the default is the version of the installed partfit, whichever that is.

    Raises:
        TypeError: if a field is of another type.
    """

    kind: str = attrs.field(validator=_is_string)
    name: str = attrs.field(validator=_is_string)
    target: str = attrs.field(validator=_is_string)
    summary: str = attrs.field(default="", validator=_is_string)
    api_version: int = attrs.field(default=API_VERSION, validator=attrs.validators.instance_of(int))


@hookspec
def partfit_components() -> list[ComponentSpec]:
    """Declare the components of a plugin.

    Called once, when the plugins are discovered. It must be cheap and must not depend on the machine:
    what a component needs (a model file, a device) is the business of its `Config`.

    An exception, or a result that is not a list of `ComponentSpec`, is reported by `partfit plugins` as
    the failure of this plugin; other plugins are not affected.

    Returns:
        The declarations, in any order.
    """
    raise NotImplementedError  # plugins implement it; this function is its signature and documentation
