"""Is a server right before it is fast: ask it once about many images, compare with ONNX Runtime."""

from __future__ import annotations

import http.client
import re

import numpy as np
from numpy.typing import NDArray

from benchmarks.forms import Form

CHECKED = 100  # requests asked before anything is measured
TOLERANCE = 1e-4


class WrongAnswer(Exception):
    """A server that does not answer as the model does; its speed means nothing."""


def check(port: int, form: Form, requests: list[bytes], wanted: NDArray[np.float32]) -> None:
    """Raises WrongAnswer unless the answers are the model's: probabilities float32[N, 10]."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    for first, request in enumerate(requests[:CHECKED]):
        head, _, body = request.partition(b"\r\n\r\n")
        headers = dict(re.findall(r"\r\n([^:]+): ([^\r]+)", head.decode()))
        connection.request("POST", form.path, body, headers)
        answer = connection.getresponse()
        data = answer.read()
        if answer.status != 200:
            raise WrongAnswer(f"{form.name}: status {answer.status}: {data[:200]!r}")
        found = form.read({k.lower(): v for k, v in answer.getheaders()}, data)
        rows = wanted[np.arange(first, first + form.rows) % len(wanted)]
        if found.shape == rows.shape:
            away = float(np.abs(found - rows).max())
            if not away <= TOLERANCE:
                raise WrongAnswer(f"{form.name}: image {first} is {away:.2g} away from the model")
        elif (found[:, 0] != rows.argmax(axis=1)).any():
            raise WrongAnswer(f"{form.name}: image {first} has another label than the model says")
    connection.close()
