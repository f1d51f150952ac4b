"""Adapters from robots of other libraries to the control loop."""
