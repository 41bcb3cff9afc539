"""What launch arguments mean, and what is said of those that cannot be used."""

import pytest

from proxqa_ros.common.launch_arguments import camera_names, camera_topic, joined, yes_or_no


def test_yes_and_no():
    assert [yes_or_no("rviz", v) for v in ("true", "True", "1", "no", "OFF")] == [True, True, True, False, False]
    with pytest.raises(ValueError, match="launch argument rviz is 'perhaps'; expected true or false"):
        yes_or_no("rviz", "perhaps")


def test_cameras():
    assert camera_names("front, rear_2 ,L") == ("front", "rear_2", "L")


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("", "is ''; expected comma-separated names"),
        (" ", "is ' '; expected comma-separated names"),
        ("front,", "'' cannot be a namespace"),
        ("front,2nd", "'2nd' cannot be a namespace"),
        ("front/left", "'front/left' cannot be a namespace"),
        ("a-b", "'a-b' cannot be a namespace"),
        ("a__b", "'a__b' cannot be a namespace"),
        ("fr$(x)", "cannot be a namespace"),
        ("front,rear,front", "'front' comes twice"),
    ],
)
def test_cameras_that_cannot_be_used(value, said):
    with pytest.raises(ValueError) as caught:
        camera_names(value)
    assert said in str(caught.value) and "\n" not in str(caught.value) and "cameras" in str(caught.value)


@pytest.mark.parametrize(
    ("pattern", "several", "topic"),
    [
        ("/{camera}/color/image_raw", True, "/front/color/image_raw"),
        ("/cams/{camera}_{camera}", True, "/cams/front_front"),
        ("image_raw", True, "image_raw"),  # in the namespace of the camera
        ("/camera/image_raw", False, "/camera/image_raw"),
    ],
)
def test_topics(pattern, several, topic):
    assert camera_topic("image", pattern, "front", several) == topic


@pytest.mark.parametrize(
    ("pattern", "said"),
    [("/camera/image_raw", "one topic for every camera"), ("/{name}/image", "expected a topic"), ("", "is ''")],
)
def test_topics_that_cannot_be_used(pattern, said):
    with pytest.raises(ValueError, match="launch argument image is") as caught:
        camera_topic("image", pattern, "front", True)
    assert said in str(caught.value)


def test_namespaces_are_joined():
    assert [joined(n, "front") for n in ("", "/", "robot", "/robot/")] == [
        "front",
        "front",
        "robot/front",
        "/robot/front",
    ]
