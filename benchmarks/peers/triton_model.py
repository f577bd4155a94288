"""Triton's Python backend over ONNX Runtime: the requests of one batch run as one."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import onnxruntime
import triton_python_backend_utils as triton


class TritonPythonModel:
    """V2 tensors in, probabilities out."""

    def initialize(self, args: dict[str, str]) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self.session = onnxruntime.InferenceSession(os.environ["BENCH_MODEL"], options)

    def execute(self, requests: list[Any]) -> list[Any]:
        parts = [triton.get_input_tensor_by_name(r, "images").as_numpy() for r in requests]
        images = parts[0] if len(parts) == 1 else np.concatenate(parts)
        answers = self.session.run(["probabilities"], {"images": images})[0]
        replies, start = [], 0
        for part in parts:
            end = start + len(part)
            tensor = triton.Tensor("probabilities", answers[start:end])
            replies.append(triton.InferenceResponse(output_tensors=[tensor]))
            start = end
        return replies
