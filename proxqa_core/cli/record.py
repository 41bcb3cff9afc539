"""`proxqa record`: an RGB-D bag with boxes becomes a labelled folder to train on."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from proxqa_core.cli import common, tables

if TYPE_CHECKING:
    from proxqa_core.datasets.record import Settings

OF_BOXES = ("depth", "boxes", "tolerance", "min_score", "names", "complete")
"""The options that images alone have no use for."""
SETTINGS = ("topic", "every_seconds", "every_images", *OF_BOXES)
"""The options that are `proxqa_core.datasets.record.Settings`."""


def add_commands(commands: common.SubParsers) -> None:
    """Add `record`."""
    parser = common.add_command(
        commands, "record", "turn a bag with boxes into a labelled folder to train on", model=False
    )
    parser.add_argument("bag", metavar="BAG", type=Path, help="folder of a rosbag2, or its .mcap or .db3 file")
    parser.add_argument("--out", metavar="DIR", type=Path, help="labelled folder; a stopped recording is continued")
    parser.add_argument(
        "--frames",
        metavar="DIR",
        type=Path,
        help="instead: numbered images and an empty boxes.json, to draw boxes in (`proxqa serve --boxes DIR`)",
    )
    parser.add_argument("--topic", metavar="TOPIC", default="", help="images (default: the only topic of images)")
    parser.add_argument(
        "--depth", metavar="TOPIC", default="", help="aligned depth images, or 'none' (default: the only topic of them)"
    )
    parser.add_argument(
        "--boxes",
        metavar="TOPIC|FILE",
        default="",
        help="vision_msgs/Detection2DArray, proxqa_ros/ObjectDepthArray, or a JSON file "
        '{"IMAGE NUMBER or STAMP": [{"name": "chair", "box": [x1, y1, x2, y2]}]} (default: the only topic of boxes)',
    )
    common.add_every_arguments(parser)
    parser.add_argument(
        "--tolerance", metavar="S", type=float, default=0.05, help="most seconds from image to depth image (0.05)"
    )
    parser.add_argument("--min-score", metavar="SCORE", type=float, default=0.5, help="least score of a box (0.5)")
    parser.add_argument(
        "--names", metavar="FILE", type=Path, help='JSON, what to call a detector\'s classes: {"17": "chair"}'
    )
    parser.add_argument(
        "--complete", action="store_true", help="every instance of these names is boxed wherever it is in view"
    )
    parser.set_defaults(command=run_record, unset={name: parser.get_default(name) for name in OF_BOXES})


def run_record(options: argparse.Namespace) -> None:
    """Record a bag into a labelled folder."""
    from proxqa_core.datasets.record import Settings, record

    if (options.out is None) == (options.frames is None):
        came = "neither" if options.out is None else "both"
        raise common.BadUsageError(
            f"{came} came; expected --out DIR (a labelled folder) or --frames DIR (images to draw boxes in)"
        )
    if options.frames is not None:
        common.refuse_unused(options, "with --frames, which writes images alone; give it with --out")
    settings = Settings(**{name: getattr(options, name) for name in SETTINGS})
    if options.frames is not None:
        _write_frames(options, settings)
        return
    done = record(options.bag, options.out, settings, progress=common.shows_progress(options))
    report = {
        "folder": str(options.out),
        "images": done.images,
        "objects": done.objects,
        "objects_with_depth": done.measured,
        "names": dict(done.names.most_common()),
        "left_out": dict(done.left_out),
        "problems": done.problems,
    }
    common.write_report(options, report, tables.recording_text(report, done.left_out_text()))


def _write_frames(options: argparse.Namespace, settings: Settings) -> None:
    """Write a bag's images to draw boxes in, and say what comes next."""
    from proxqa_core.datasets.bag_frames import write_frames
    from proxqa_core.datasets.folder import NUMBERED_BOXES

    done = write_frames(options.bag, options.frames, settings, progress=common.shows_progress(options))
    report = {"folder": str(options.frames), "topic": done.topic, "images": done.images, "bad_images": done.bad}
    topic = f" --topic {done.topic}" if options.topic else ""
    text = [
        f"{options.frames}: {done.images} images of {done.topic}, called by their numbers",
        *(f"left out: {line}" for line in done.bad),
        f"draw boxes: proxqa serve --boxes {options.frames}",
        f"then:       proxqa record {options.bag}{topic} --boxes {options.frames / NUMBERED_BOXES} --out DIR",
    ]
    common.write_report(options, report, "\n".join(text))
