"""One server with two workers for every test of a client that changes nothing for the others."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.serving import Server, serving

ADMIN_KEY = "an-admin-key-for-tests"


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Serves the toy as task `light` beside the committed models; has an admin key."""
    with serving(tmp_path_factory.mktemp("shared"), VITRINE_ADMIN_KEYS=ADMIN_KEY) as running:
        yield running
