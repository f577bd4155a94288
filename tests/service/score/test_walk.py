from __future__ import annotations

import os
from pathlib import Path

import pytest

from service.score import storage
from service.score.rows import hidden, shown
from service.score.walk import Passed, Source, walk


def touch(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


def test_images_come_depth_first_each_folder_by_name(tmp_path: Path) -> None:
    touch(tmp_path, "b.png", "a/2.JPG", "a/1.jpeg", "c/x/0.webp", "a.png")
    assert list(walk(str(tmp_path))) == ["a.png", "a/1.jpeg", "a/2.JPG", "b.png", "c/x/0.webp"]


def test_files_that_are_no_images_are_counted_and_passed_by(tmp_path: Path) -> None:
    touch(tmp_path, "a.png", "README.txt", ".png", "noext")
    passed = Passed()
    assert list(walk(str(tmp_path), passed=passed)) == ["a.png"]
    assert passed.others == 3


def test_a_folder_too_large_to_sort_in_memory_comes_in_the_same_order(tmp_path: Path) -> None:
    touch(tmp_path, *(f"{number * 7919 % 1000:03}.png" for number in range(1000)), "500/a.png")
    assert list(walk(str(tmp_path), run=64)) == list(walk(str(tmp_path)))
    assert len(list(walk(str(tmp_path), run=64))) == 1001


def test_a_folder_named_like_an_image_is_one_and_is_walked_too(tmp_path: Path) -> None:
    touch(tmp_path, "x.png/inside.png")
    assert list(walk(str(tmp_path))) == ["x.png", "x.png/inside.png"]


def test_linked_folders_are_passed_by_unless_they_are_wanted(tmp_path: Path) -> None:
    touch(tmp_path, "real/a.png")
    (tmp_path / "link").symlink_to("real")
    passed = Passed()
    assert list(walk(str(tmp_path), passed=passed)) == ["real/a.png"]
    assert passed.links == 1
    assert list(walk(str(tmp_path), follow_links=True)) == ["link/a.png", "real/a.png"]


def test_a_link_that_leads_back_up_ends(tmp_path: Path) -> None:
    touch(tmp_path, "a/b/c.png")
    (tmp_path / "a" / "b" / "up").symlink_to(tmp_path)
    assert list(walk(str(tmp_path), follow_links=True)) == ["a/b/c.png"]


def test_a_list_is_taken_line_by_line_whoever_wrote_it(tmp_path: Path) -> None:
    names = tmp_path / "names.txt"
    names.write_bytes(b"b.png\r\n\n a.png\nc\xff.png")
    found = list(Source(where=str(names), kind="list").paths())
    assert found == ["b.png", " a.png", os.fsdecode(b"c\xff.png")]


@pytest.mark.parametrize(
    "name", [b"plain.png", b"caf\xc3\xa9.png", b"caf\xe9.png", b"a\\b\xff\n.png"]
)
def test_any_name_can_be_shown_as_text_and_found_again(name: bytes) -> None:
    path = os.fsdecode(name)
    shown(path).encode()  # is text
    assert path in (shown(path), hidden(shown(path)))


def test_a_name_that_is_not_utf8_shows_its_bytes() -> None:
    assert shown(os.fsdecode(b"caf\xe9.png")) == "caf\\xe9.png"


def test_every_reason_not_to_be_read_has_words(tmp_path: Path) -> None:
    (tmp_path / "link.png").symlink_to("nowhere")
    os.mkfifo(tmp_path / "pipe.png")
    for name, reason in {
        "": "is a directory",
        "gone.png": "no such file",
        "link.png": "broken link",
        "pipe.png": "not a regular file",
        "a\0b.png": "not a possible path",
    }.items():
        with pytest.raises(storage.Unreadable, match=reason):
            storage.read(f"{tmp_path}/{name}")


def test_a_file_of_many_gigabytes_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "huge.png").open("wb") as file:
        file.truncate(10 * 1024**3)  # sparse
    with pytest.raises(storage.Unreadable, match="over 64 MiB"):
        storage.read(str(tmp_path / "huge.png"))


def test_a_url_is_walked_and_read_like_a_folder(tmp_path: Path) -> None:
    touch(tmp_path, "b/2.png", "a.png", "b/1.png", "notes.txt")
    source = Source(where=f"file://{tmp_path}", kind="folder")
    assert list(source.paths()) == ["a.png", "b/1.png", "b/2.png"]
    assert storage.read(storage.join(source.root, "b/1.png")) == b"x"


def test_a_file_of_somebody_else_says_that_it_is_locked(tmp_path: Path) -> None:
    (tmp_path / "locked.png").touch(mode=0)
    user = os.geteuid()
    if user == 0:  # to whom nothing is locked
        os.seteuid(65534)
    try:
        with pytest.raises(storage.Unreadable, match="permission denied"):
            storage.read(str(tmp_path / "locked.png"))
    finally:
        os.seteuid(user)
