"""proxqa: how far named objects are and which is closer, from one image. Imports nothing of ROS."""

import os

__version__ = "0.1.0"

# Read by OpenMP when torch is first imported. By default its threads spin while they wait for one another; where other
# processes need the cores too (a robot's do), each wait then costs a time slice: seconds instead of tenths.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
