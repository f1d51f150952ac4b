"""Frozen encoders, instructions, grounding, and an action module with a mixture of experts."""
