"""What the nodes share: conversions, parameters, QoS, executor, life cycle."""
