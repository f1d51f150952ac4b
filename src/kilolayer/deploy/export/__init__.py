"""Export of policies to files for other runtimes. Each file is first compared with the policy.

Offers `write.export` (ONNX, serialised JAX, the arrays), `folder.export_robot` (the folder that
`kilolayer-robot run` opens) and `onnx_session.open_session`. The packages of ONNX are imported when
an export begins.
"""
