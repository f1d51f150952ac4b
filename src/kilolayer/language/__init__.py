"""Policies that follow instructions: frozen encoders, instructions, grounding, the action module.

A grounding maps a sentence and a picture to a goal; an action module maps them to actions. Offers
`train_grounding.train_grounding`, `grounding.open_grounding`, `train_module.train_module` and
`train_module.open_module`, the evaluations of both in `evaluate`, and `interpret.SceneInterpreter`
for the local page and the control loop. Encoders are never trained together with these networks.
"""
