"""LitServe with its batching: `max_batch_size=64`, the faster queue, no access log."""

import io
import os
import sys

import litserve
import numpy as np
import onnxruntime
from fastapi import Request
from PIL import Image


class Reference(litserve.LitAPI):
    """Multipart PNG in, ten probabilities out."""

    def setup(self, device: str) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(os.environ["BENCH_MODEL"], options)

    def decode_request(self, request: Request) -> np.ndarray:
        image = Image.open(io.BytesIO(request["image"].file.read()))
        return np.asarray(image.convert("L"), dtype=np.uint8)

    def batch(self, inputs: list[np.ndarray]) -> np.ndarray:
        return np.stack(inputs)

    def predict(self, x: np.ndarray) -> np.ndarray:
        return self.session.run(["probabilities"], {"images": x})[0]

    def unbatch(self, output: np.ndarray) -> list[np.ndarray]:
        return list(output)

    def encode_response(self, output: np.ndarray) -> dict[str, list[float]]:
        return {"probabilities": output.tolist()}


if __name__ == "__main__":
    api = Reference(
        max_batch_size=64, batch_timeout=float(os.environ.get("BENCH_LITSERVE_WAIT_S", "0.005"))
    )
    server = litserve.LitServer(
        api,
        accelerator="cpu",
        workers_per_device=1,
        fast_queue=os.environ.get("BENCH_LITSERVE_FAST_QUEUE", "1") == "1",
    )
    server.run(
        host="127.0.0.1",
        port=int(sys.argv[1]),
        num_api_servers=1,
        log_level="warning",
        generate_client_file=False,
        access_log=False,
    )
