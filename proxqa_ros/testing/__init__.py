"""Run the nodes as a robot would, and watch them: what the demo, the soak run and the tests share.

One module per job: `waiting` (conditions with a timeout), `domain` (a ROS domain of one's own), `process` (a node as a
process), `spinning` (an executor in a thread), `watcher` (a proximity node's state and counts), `camera` (images, and
work at a steady rate), `engine` (the proximity node with another engine than the model's).
"""
