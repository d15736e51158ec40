"""Trackers and finders of `fyc asl` that come with fyc."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from fyc import hookimpl

if TYPE_CHECKING:
    from fyc.asl.tracker import Finder, Tracker


@hookimpl
def fyc_register_trackers(register: Callable[[type[Tracker] | type[Finder]], None]) -> None:
    """Register the trackers and finders."""
    from fyc_plugins.trackers.blazeface import BlazeFaceFinder
    from fyc_plugins.trackers.flow import FlowTracker
    from fyc_plugins.trackers.haar import HaarFinder
    from fyc_plugins.trackers.network import NetworkTracker
    from fyc_plugins.trackers.template import TemplateTracker

    register(NetworkTracker)
    register(FlowTracker)
    register(TemplateTracker)
    register(BlazeFaceFinder)
    register(HaarFinder)
