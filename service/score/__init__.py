"""Offline scoring: a folder of images becomes a file of predictions, by the code that serves.

`command` is the command line, `run` what it does. Light to import: neither bentoml nor torch, and
NumPy and ONNX Runtime only in the processes that need them.
"""
