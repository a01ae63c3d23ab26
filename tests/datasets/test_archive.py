"""Archives that behave and archives that do not."""

import io
import stat
import tarfile
import zipfile

import pytest

from corrbench.datasets.archive import unpack
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
