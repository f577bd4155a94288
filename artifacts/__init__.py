"""The contract between training and serving: version folders, images, and how they are read."""

import os

# ONNX Runtime 1.31 sends usage events to its maker, and keeps an id of the machine under HOME. It
# looks here when it is first imported, and nothing of ours imports it earlier.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
