"""One thread for torch: the nets of the tests are too small to gain from more."""

from __future__ import annotations

import torch

torch.set_num_threads(1)
