"""What a tracker of the ensemble is: the contract of the hook `fyc_register_trackers`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Protocol

from fyc.errors import PluginError

if TYPE_CHECKING:
    from fyc.asl.face.bundle import Bundle
    from fyc.asl.face.detector import Face, Image
    from fyc.asl.face.litert import Floats
    from fyc.plugins import PluginHost


@dataclass(frozen=True)
class Reading:
    """What one tracker says of one frame.

    Attributes:
        points: (468, 2), vertices of the mesh in pixels; NaN where the tracker says nothing.
        score: 0 to 1, how sure the tracker is of itself; scores of different trackers do not compare.
        depths: (468,), in pixels, smaller nearer to the camera, from a tracker that sees depth.
        expressive: whether the points follow lids, lips and brows; a template or a flow only follows the face.
    """

    points: Floats
    score: float
    depths: Floats | None = None
    expressive: bool = False


class Tracker(Protocol):
    """Follows a face from frame to frame.

    A class is registered, and one object of it is made for each video from the networks and the mesh. It may keep what
    it saw before; it must not change the pictures it is given.

    Attributes:
        name: what the results call it: lower case, hyphens.
        summary: one line for users.
    """

    name: ClassVar[str]
    summary: ClassVar[str]

    def __init__(self, bundle: Bundle) -> None: ...

    def start(self, image: Image, points: Floats) -> None:
        """Take over a face, at the beginning and whenever the ensemble found it again.

        Args:
            image: (H, W, 3) RGB.
            points: (468, 2), where the ensemble has the face in this frame.
        """
        ...

    def track(self, image: Image, points: Floats) -> Reading | None:
        """The face in the next frame; None when it is lost.

        Args:
            image: (H, W, 3) RGB.
            points: (468, 2), where the ensemble had the face in the frame before.
        """
        ...


class Finder(Protocol):
    """Finds faces without knowing where they were; the second opinion on what trackers say.

    Attributes:
        name, summary: as of a tracker.
    """

    name: ClassVar[str]
    summary: ClassVar[str]

    def __init__(self, bundle: Bundle) -> None: ...

    def find(self, image: Image) -> list[Face]:
        """Faces in a picture (H, W, 3) RGB, best first."""
        ...


def trackers(host: PluginHost) -> dict[str, type[Tracker]]:
    """The trackers of all plugins, by name.

    Raises:
        PluginError: FYC-P03 when two have one name, FYC-P04 when one lacks something, FYC-P05 when a plugin fails.
    """
    return {name: cls for name, cls in _registered(host).items() if hasattr(cls, "track")}


def finders(host: PluginHost) -> dict[str, type[Finder]]:
    """The finders of all plugins, by name; errors as of `trackers`."""
    return {name: cls for name, cls in _registered(host).items() if hasattr(cls, "find")}


def _registered(host: PluginHost) -> dict[str, type]:
    found: dict[str, type] = host.named("fyc_register_trackers", "tracker", ("name", "summary"))
    for name, cls in found.items():
        if not (isinstance(cls, type) and (hasattr(cls, "find") or (hasattr(cls, "start") and hasattr(cls, "track")))):
            raise PluginError(
                "FYC-P04", f"the tracker `{name}` can neither track nor find", where="fyc_register_trackers",
                next="register a class with `start` and `track`, or with `find` (fyc.asl.tracker)",
            )  # fmt: skip
    return found
