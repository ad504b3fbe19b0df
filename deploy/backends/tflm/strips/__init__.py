"""Strips: big maps run row band by row band, in plain TFLite operators, bit for bit the same.

``choose_strips`` searches for the best way; ``cut`` cuts in a given one. The way of a graph:
``operators`` and ``rows`` say what depends on what, ``cuts`` what is cut, ``tiles`` which rows one
strip reads, ``schedule`` in which order, ``footprint`` and ``packing`` what that needs of memory,
``emit`` and ``layout`` write it down. ``never_whole`` holds maps to strips whatever that costs.
"""

from deploy.backends.tflm.strips.choose import StripChoice, choose_strips, cut
from deploy.backends.tflm.strips.cuts import Cuts, Halo, region_of
from deploy.backends.tflm.strips.estimate import Candidate
from deploy.backends.tflm.strips.never_whole import obstacles
from deploy.operators.by_rows import Uncut

__all__ = [
    "Candidate",
    "Cuts",
    "Halo",
    "StripChoice",
    "Uncut",
    "choose_strips",
    "cut",
    "obstacles",
    "region_of",
]
