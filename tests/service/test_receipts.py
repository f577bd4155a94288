"""Receipts: their format, what is refused, and where the key comes from."""

from __future__ import annotations

import base64
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.receipts import KEY_FILE, BadSecret, Expired, Forged, Signer, load_keys

NOW = 1_790_000_000.5
VERSION = "3f2a9c0d11e2"
SECRET = "correct horse battery staple"


def signer(secret: str = SECRET, *old: str) -> Signer:
    return Signer(load_keys(secret, None, old))


def test_a_receipt_says_what_was_predicted() -> None:
    token = signer().sign(VERSION, 7, 0.998, NOW)
    receipt = signer().verify(token, NOW)
    assert (receipt.id, receipt.version, receipt.index) == (token, VERSION, 7)
    assert receipt.confidence == pytest.approx(0.998, abs=1 / 65535)
    assert receipt.issued == 1_790_000_000


# The golden receipts, made once by packing the bytes by hand. If this test fails, replicas of two
# releases would refuse each other's receipts: give the format a new number, and keep reading this.
@pytest.mark.parametrize(
    ("token", "version", "index", "confidence"),
    [
        ("AT8qnA0R4gAH_31qsTuAAAECAwQFBgfrUllEvkZqgJXet2hDTQo3", VERSION, 7, 65405 / 65535),
        ("AQAAAAAAAAPnAABqsTuA__________-cQUX2JtyIitF951NV1mWm", "000000000000", 999, 0.0),
    ],
)
def test_receipts_of_earlier_releases_are_read(
    token: str, version: str, index: int, confidence: float
) -> None:
    receipt = signer().verify(token, NOW)
    assert (receipt.version, receipt.index, receipt.confidence) == (version, index, confidence)
    assert receipt.issued == 1_790_000_000


def test_a_receipt_is_52_characters_that_need_no_escaping_in_a_url() -> None:
    for _ in range(200):
        token = signer().sign(VERSION, 0, 1.0, NOW)
        assert len(token) == 52
        assert token.replace("-", "").replace("_", "").isalnum()


def test_no_two_receipts_are_the_same() -> None:
    one = signer()
    assert len({one.sign(VERSION, 7, 0.5, NOW) for _ in range(10_000)}) == 10_000


@given(
    version=st.binary(min_size=6, max_size=6),
    index=st.integers(0, 65535),
    confidence=st.floats(0, 1),
    now=st.integers(0, 2**32 - 1),
)
def test_whatever_is_signed_is_read_back(
    version: bytes, index: int, confidence: float, now: int
) -> None:
    receipt = signer().verify(signer().sign(version.hex(), index, confidence, now), now)
    assert (receipt.version, receipt.index, receipt.issued) == (version.hex(), index, now)
    assert abs(receipt.confidence - confidence) <= 1 / 65535


def test_a_confidence_that_rounding_lifted_above_one_is_one() -> None:
    assert signer().verify(signer().sign(VERSION, 7, 1.001, NOW), NOW).confidence == 1.0


def test_a_receipt_with_any_bit_changed_is_refused() -> None:
    token = signer().sign(VERSION, 7, 0.998, NOW)
    raw = base64.urlsafe_b64decode(token)
    for bit in range(len(raw) * 8):
        changed = bytearray(raw)
        changed[bit // 8] ^= 1 << bit % 8
        with pytest.raises(Forged):
            signer().verify(base64.urlsafe_b64encode(bytes(changed)).decode(), NOW)


def test_a_receipt_of_an_unknown_format_is_refused_though_well_signed() -> None:
    one = signer()
    one._heads[VERSION] = b"\x02" + bytes.fromhex(VERSION)
    with pytest.raises(Forged):
        one.verify(one.sign(VERSION, 7, 0.5, NOW), NOW)


@pytest.mark.parametrize(
    "text",
    ["", "x", "A" * 51, "A" * 53, "A" * 52, "A" * 51 + "=", "A" * 51 + "\n", "+" * 52, "é" * 52],
)
def test_what_is_no_receipt_is_refused_with_one_message(text: str) -> None:
    with pytest.raises(Forged, match=r"^not a receipt of this service$"):
        signer().verify(text, NOW)


def test_a_receipt_expires_after_thirty_days() -> None:
    token = signer().sign(VERSION, 7, 0.998, NOW)
    signer().verify(token, NOW + 30 * 86400 - 1)
    with pytest.raises(Expired, match="older than 30 days"):
        signer().verify(token, NOW + 30 * 86400 + 1)


def test_a_forged_receipt_is_forged_before_it_is_expired() -> None:
    with pytest.raises(Forged):
        signer("another secret entirely").verify(signer().sign(VERSION, 7, 0.998, 0), NOW)


def test_after_rotation_the_old_key_is_accepted_until_it_is_dropped() -> None:
    old, new = "the secret of last year", "the secret of this year"
    token = signer(old).sign(VERSION, 7, 0.5, NOW)
    rotating = signer(new, old)
    assert rotating.verify(token, NOW).index == 7
    assert signer(new).verify(rotating.sign(VERSION, 3, 0.5, NOW), NOW).index == 3
    with pytest.raises(Forged):
        signer(new).verify(token, NOW)


def test_a_version_that_is_not_12_hex_digits_is_our_own_bug() -> None:
    for version in ("3f2a", "not hexadec.", ""):
        with pytest.raises(ValueError, match="hex"):
            signer().sign(version, 0, 0.5, NOW)


@pytest.mark.parametrize("secrets", [("hunter2",), (SECRET, "hunter2")])
def test_a_weak_secret_is_refused_without_being_shown(secrets: tuple[str, ...]) -> None:
    with pytest.raises(BadSecret) as refused:
        load_keys(secrets[0], None, secrets[1:])
    assert str(refused.value) == "VITRINE_SECRET: a secret is shorter than 16 characters"


def test_a_generated_key_is_kept_for_its_owner_alone(tmp_path: Path) -> None:
    first = load_keys("", tmp_path / "state")
    assert first.origin == "file"
    assert stat.S_IMODE((tmp_path / "state" / KEY_FILE).stat().st_mode) == 0o600
    assert load_keys("", tmp_path / "state") == first
    assert [path.name for path in (tmp_path / "state").iterdir()] == [KEY_FILE]


def test_two_services_generate_different_keys(tmp_path: Path) -> None:
    assert load_keys("", tmp_path / "a") != load_keys("", tmp_path / "b")


def test_workers_that_start_together_agree_on_one_key(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from service.receipts import load_keys;"
        "print('ready', flush=True); sys.stdin.readline();"
        "print(load_keys('', Path(sys.argv[1])).current.hex())"
    )
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", program, str(tmp_path / "state")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(8)
    ]
    for worker in workers:
        assert worker.stdout is not None
        assert worker.stdout.readline() == "ready\n"
    for worker in workers:
        assert worker.stdin is not None
        worker.stdin.write("\n")
        worker.stdin.flush()
    found = {worker.communicate(timeout=30)[0] for worker in workers}
    assert len(found) == 1
    assert load_keys("", tmp_path / "state").current.hex() + "\n" in found


def test_the_key_file_may_list_old_keys(tmp_path: Path) -> None:
    (tmp_path / KEY_FILE).write_text("the-secret-of-this-year\nthe-secret-of-last-year\n")
    keys = load_keys("", tmp_path, ("the secret before those",))
    years = ["the-secret-of-this-year", "the-secret-of-last-year", "the secret before those"]
    assert (keys.current, *keys.old) == tuple(load_keys(y, None).current for y in years)


def test_a_damaged_key_file_is_not_used_and_is_named(tmp_path: Path) -> None:
    for content in (b"", b"\n\n", b"\xff\xfe" * 20, b"short\n"):
        (tmp_path / KEY_FILE).write_bytes(content)
        keys = load_keys("", tmp_path)
        assert keys.origin == "ephemeral"
        assert f"{KEY_FILE} is damaged" in keys.problem


def test_without_a_writable_state_folder_the_key_is_ephemeral_and_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("where a folder should be")
    for state in (None, tmp_path / "file" / "state"):
        keys = load_keys("", state)
        assert keys.origin == "ephemeral"
        assert keys.problem
    assert load_keys("", None).current != load_keys("", None).current


def test_signing_costs_a_fraction_of_what_a_prediction_may() -> None:
    one = signer()
    rounds = []
    for _ in range(20):
        start = time.perf_counter()
        for _ in range(1_000):
            one.sign(VERSION, 7, 0.998, NOW)
        rounds.append((time.perf_counter() - start) / 1_000)
    assert min(rounds) < 7e-6
