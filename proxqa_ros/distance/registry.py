"""The sources of true distances that there are. A new one is its file and its entry here."""

from __future__ import annotations

from proxqa_ros.distance.depth_image import DepthImageSource
from proxqa_ros.distance.known_sizes import KnownSizesSource
from proxqa_ros.distance.range import RangeSource
from proxqa_ros.distance.scan import ScanSource
from proxqa_ros.distance.source import DistanceSource

SOURCES: tuple[type[DistanceSource], ...] = (RangeSource, DepthImageSource, ScanSource, KnownSizesSource)
