"""The diagnostic status: the first thing that is wrong is the message, and nothing is where nothing is."""

from __future__ import annotations

import math

import pytest
from diagnostic_msgs.msg import DiagnosticStatus

from proxqa_ros.common.shared_memory import SharedMemoryState
from proxqa_ros.proximity.diagnostics import CHECKS, Snapshot, verdict
from proxqa_ros.proximity.worker import Counts

WELL = {"state": "active", "active": True, "loaded": True, "image_age_s": 0.1, "max_image_age_s": 5.0}
TROUBLES = [
    ({"new_troubles": 3, "counts": Counts(last_error="too small")}, "3 frames not used: too small"),
    ({"qos_problems": ["/camera does not fit", "/other"]}, "/camera does not fit"),
    ({"use_detections": True, "detections_problem": "a number"}, "a number"),
    ({"use_detections": True}, "no detections have come that belong to an image"),
    ({"shared_memory": SharedMemoryState(False, "", "not in use")}, "not in use"),
    ({"unmatched_remaps": ["imagee matches nothing", "dept"]}, "imagee matches nothing"),
    ({"image_age_s": math.nan}, "no usable image has arrived yet"),
    ({"image_age_s": 7.06}, "the newest image is 7.1 s old"),
    ({"image_loss": "3 of 90 images arrived"}, "3 of 90 images arrived"),
    ({"image_problem": "the image is dark"}, "the image is dark"),
    ({"calibration_problem": "no camera_info"}, "no metres learned: no camera_info"),
    ({"camera_problem": "no camera_info"}, "no markers: no camera_info"),
    ({"unknown_parameters": ["rat is unknown", "objcts is unknown"]}, "rat is unknown"),
    ({"shared_memory": SharedMemoryState(True, "", "no room")}, "no room"),
]
"""From the most important to the least."""


def test_a_node_that_is_well_says_its_state():
    assert verdict(Snapshot(**WELL)) == (DiagnosticStatus.OK, "active")
    assert len(TROUBLES) == len(CHECKS)


@pytest.mark.parametrize("n", range(len(TROUBLES)))
def test_the_most_important_trouble_is_the_message(n):
    several = {k: v for fields, _ in reversed(TROUBLES[n:]) for k, v in fields.items()}
    if n > 3:
        several["use_detections"] = False
    elif n == 3:
        several["detections_problem"] = ""
    assert verdict(Snapshot(**WELL | TROUBLES[n][0])) == (DiagnosticStatus.WARN, TROUBLES[n][1])
    assert verdict(Snapshot(**WELL | several)) == (DiagnosticStatus.WARN, TROUBLES[n][1])
    assert verdict(Snapshot(**WELL | several | {"active": False, "state": "inactive"})) == (
        DiagnosticStatus.OK,
        "inactive",
    )


def test_a_failed_transition_and_a_missing_model_go_before():
    everything = {k: v for fields, _ in TROUBLES for k, v in fields.items()}
    missing = Snapshot(**WELL | everything | {"loaded": False, "state": "unconfigured"})
    assert verdict(missing) == (DiagnosticStatus.WARN, "unconfigured: no model is loaded")
    failed = Snapshot(**WELL | everything | {"loaded": False, "fault": "cannot configure: no such model"})
    assert verdict(failed) == (DiagnosticStatus.ERROR, "cannot configure: no such model")


def test_images_of_another_time():
    ahead = Snapshot(**WELL | {"image_age_s": -7.0, "use_detections": True, "detections_matched": 1})
    assert verdict(ahead)[1] == "the newest image with detections is stamped 7.0 s ahead of the clock"
    assert verdict(Snapshot(**WELL | {"image_age_s": 700.0, "max_image_age_s": 0.0}))[0] == DiagnosticStatus.OK
