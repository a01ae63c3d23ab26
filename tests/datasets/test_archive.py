"""Archives that behave and archives that do not."""

import io
import stat
import tarfile
import zipfile

import numpy as np
import pytest

from corrbench.datasets.archive import archive_notes, unpack
from corrbench.errors import Refusal


def make_zip(path, members):
    with zipfile.ZipFile(path, "w") as file:
        for name, content in members.items():
            file.writestr(name, content)
    return path


def make_tar(path, members, link=None):
    with tarfile.open(path, "w:gz") as file:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            file.addfile(info, io.BytesIO(content))
        if link:
            info = tarfile.TarInfo("link")
            info.type, info.linkname = tarfile.SYMTYPE, link
            file.addfile(info)
    return path


@pytest.mark.parametrize("make", [make_zip, make_tar])
def test_archives_are_unpacked_one_over_the_other(tmp_path, make):
    one = make(tmp_path / "one", {"D/a.txt": b"a", "D/sub/b.txt": b"b"})
    two = make(tmp_path / "two", {"D/c.txt": b"c"})
    unpack([one, two], tmp_path / "out")
    assert sorted(p.relative_to(tmp_path / "out").as_posix() for p in (tmp_path / "out").rglob("*.txt")) == [
        "D/a.txt",
        "D/c.txt",
        "D/sub/b.txt",
    ]


@pytest.mark.parametrize("make", [make_zip, make_tar])
@pytest.mark.parametrize("name", ["../evil.txt", "/tmp/evil.txt", "D/../../evil.txt", "C:\\evil.txt"])
def test_members_cannot_leave_the_folder(tmp_path, make, name):
    archive = make(tmp_path / "archive", {"fine.txt": b"fine", name: b"evil"})
    with pytest.raises(Refusal, match="would land outside"):
        unpack([archive], tmp_path / "in" / "out")
    assert not (tmp_path / "in" / "out").exists() and not (tmp_path / "evil.txt").exists()


def test_links_are_refused(tmp_path):
    with pytest.raises(Refusal, match="is a link or a device"):
        unpack([make_tar(tmp_path / "a.tar.gz", {"x": b"x"}, link="/etc/passwd")], tmp_path / "out")
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        info = zipfile.ZipInfo("link")
        info.external_attr = (stat.S_IFLNK | 0o777) << 16
        file.writestr(info, "/etc/passwd")
    with pytest.raises(Refusal, match="is a link or a device"):
        unpack([tmp_path / "a.zip"], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_damaged_archives_are_refused(tmp_path):
    archive = make_zip(tmp_path / "a.zip", {"a": b"a" * 1000})
    content = bytearray(archive.read_bytes())
    content[100] ^= 1
    archive.write_bytes(content)
    with pytest.raises(Refusal, match="not a readable archive"):
        unpack([archive], tmp_path / "out")
    (tmp_path / "b.zip").write_bytes(b"<html>not found</html>")
    with pytest.raises(Refusal, match="neither zip nor tar"):
        unpack([tmp_path / "b.zip"], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def compressed(path, how):
    with tarfile.open(path, f"w:{how}") as file:
        for name in "abc":
            content = np.random.default_rng(ord(name)).bytes(2000)
            info = tarfile.TarInfo(f"D/{name}.txt")
            info.size = len(content)
            file.addfile(info, io.BytesIO(content))
    return path


@pytest.mark.parametrize("how", ["gz", "bz2", "xz"])
def test_one_flipped_bit_of_a_compressed_tar_is_never_unpacked(tmp_path, how):
    archive = compressed(tmp_path / f"a.tar.{how}", how)
    whole = archive.read_bytes()
    unpack([archive], tmp_path / "right")
    right = {p.name: p.read_bytes() for p in (tmp_path / "right/D").iterdir()}
    rng = np.random.default_rng(0)
    refused = 0
    for at in rng.integers(12, len(whole), 12):
        damaged = bytearray(whole)
        damaged[at] ^= 1 << int(rng.integers(8))
        archive.write_bytes(damaged)
        try:
            unpack([archive], tmp_path / "out")
        except Refusal:
            refused += 1
        else:  # a bit that means nothing, as gzip's operating system or bits of padding
            assert {p.name: p.read_bytes() for p in (tmp_path / "out/D").iterdir()} == right
    assert refused >= 10


@pytest.mark.parametrize("how", ["gz", "bz2", "xz", ""])
def test_a_cut_tar_is_refused(tmp_path, how):
    archive = compressed(tmp_path / "a.tar", how)
    whole = archive.read_bytes()
    for length in (
        len(whole) * 2 // 3,
        2560 if not how else len(whole) - 4,
    ):  # 2560: right after a member of a plain tar
        archive.write_bytes(whole[:length])
        with pytest.raises(Refusal, match="not a readable archive"):
            unpack([archive], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_damaged_header_does_not_end_a_plain_tar(tmp_path):
    archive = compressed(tmp_path / "a.tar", "")
    damaged = bytearray(archive.read_bytes())
    damaged[2560 + 3] ^= 1  # the name of the second member, in its header
    archive.write_bytes(damaged)
    with pytest.raises(Refusal, match="a damaged header at byte 2560"):
        unpack([archive], tmp_path / "out")
    assert archive_notes([compressed(tmp_path / "b.tar", ""), compressed(tmp_path / "b.tar.gz", "gz")]) == [
        "b.tar carries no checksum of its contents: only its headers could be checked"
    ]


def edited(path, change):
    data = bytearray(path.read_bytes())
    entry = data.find(b"PK\1\2")
    change(data, entry)
    path.write_bytes(data)
    return path


def flag_encrypted(data, entry):
    data[entry + 8] |= 1
    data[6] |= 1


def method_99(data, entry):
    data[entry + 10] = data[8] = 99


def size_4000(data, entry):
    data[entry + 24 : entry + 28] = (4000).to_bytes(4, "little")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (flag_encrypted, "encrypted"),
        (method_99, "not a readable archive"),
        (size_4000, "has 1000 bytes, its entry says 4000"),
    ],
)
def test_zip_files_that_lie_are_refused(tmp_path, change, words):
    archive = make_zip(tmp_path / "a.zip", {"a": b"a" * 1000})
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("a", b"a" * 1000)
    with pytest.raises(Refusal, match=words):
        unpack([edited(archive, change)], tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("make", [make_zip, make_tar])
@pytest.mark.parametrize(
    ("members", "words"),
    [({"a": b"x", "a/b": b"y"}, "is a file and a folder"), ({"n" * 300: b"x"}, "no file system takes")],
)
def test_names_that_cannot_be_are_refused(tmp_path, make, members, words):
    with pytest.raises(Refusal, match=words):
        unpack([make(tmp_path / "a", members)], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_name_that_comes_twice_has_one_content(tmp_path):
    for second, right in ((b"one", True), (b"two", False)):
        with tarfile.open(tmp_path / "a.tar.gz", "w:gz") as file:
            for content in (b"one", second):
                info = tarfile.TarInfo("a")
                info.size = 3
                file.addfile(info, io.BytesIO(content))
        if right:
            unpack([tmp_path / "a.tar.gz"], tmp_path / "out")
        else:
            with pytest.raises(Refusal, match="'a' is there twice, with two contents"):
                unpack([tmp_path / "a.tar.gz"], tmp_path / "out")


def test_a_tar_that_ends_with_a_zip_is_a_tar(tmp_path):
    inner = make_zip(tmp_path / "inner.zip", {"inner": b"x"}).read_bytes()
    with tarfile.open(tmp_path / "a.tar", "w") as file:
        info = tarfile.TarInfo("inner.zip")
        info.size = len(inner)
        file.addfile(info, io.BytesIO(inner))
    unpack([tmp_path / "a.tar"], tmp_path / "out")
    assert (tmp_path / "out/inner.zip").read_bytes() == inner


def test_what_others_put_into_the_folder_stays(tmp_path):
    archive = make_zip(tmp_path / "a.zip", {"a": b"a"})
    (tmp_path / "out").mkdir()
    (tmp_path / "out/thesis.txt").write_text("years")
    with pytest.raises(Refusal, match=r"out: holds 1 files that corrbench did not write \(thesis.txt\)"):
        unpack([archive], tmp_path / "out")
    assert (tmp_path / "out/thesis.txt").read_text() == "years"
    (tmp_path / "out/thesis.txt").unlink()
    unpack([archive], tmp_path / "out")
    unpack([make_zip(tmp_path / "b.zip", {"b": b"b"})], tmp_path / "out")
    assert sorted(p.name for p in (tmp_path / "out").glob("[!.]*")) == ["b"]
