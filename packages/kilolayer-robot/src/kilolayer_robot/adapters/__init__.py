"""Robots of other libraries as robots of the control loop."""
