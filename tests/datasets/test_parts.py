"""Kinetics-400's list of archives, from a server on 127.0.0.1 that is slow, cuts, damages and forgets."""

import io
import subprocess
import sys
import tarfile
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import yaml
from conftest import ROOT

from corrbench.datasets.parts import parse_list
from corrbench.errors import Refusal


def archive(videos):
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as tar:
        for name, content in videos.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return stream.getvalue()


FILES = {
    f"part_{i}.tar.gz": archive({f"./v{i}{j}_000001_000011.mp4": bytes([i, j]) * 40000 for j in range(3)})
    for i in range(5)
}
CORRECTED = archive({"some/folder/v11_000001_000011.mp4": b"corrected", "readme.txt": b"x"})


class Handler(BaseHTTPRequestHandler):
    """As an object store: ranges, ETags, no web pages. `troubles` says what happens to a file the first time."""

    troubles: dict = {}  # noqa: RUF012
    asked: list = []  # noqa: RUF012
    at_a_time = most = 0

    def do_GET(self):
        name = self.path.rpartition("/")[2]
        Handler.asked.append(name)
        Handler.at_a_time += 1
        Handler.most = max(Handler.most, Handler.at_a_time)
        try:
            self.answer(name)
        finally:
            Handler.at_a_time -= 1

    def answer(self, name):
        host = f"http://127.0.0.1:{self.server.server_port}/400/train/"
        lists = {"k400_train_path.txt": "".join(f"{host}{n}\n" for n in FILES).encode(), "corrected.tgz": CORRECTED}
        content = {**FILES, **lists}.get(name)
        trouble = Handler.troubles.pop(name, "")
        if content is None or trouble == "403":
            self.send_error(403)
            return
        if trouble == "damaged":
            content = content[:200] + b"damage" + content[206:]
        start = int((self.headers.get("Range") or "bytes=0-")[6:-1])
        body = content[start:]
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("ETag", f'"{name}{trouble == "damaged"}"')
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.end_headers()
        if name.startswith("part"):
            time.sleep(0.05)
        self.wfile.write(body[: len(body) // 2] if trouble == "cut" else body)

    def log_message(self, *args):
        pass


@pytest.fixture
def rows(tmp_path):
    Handler.troubles, Handler.asked, Handler.most = {}, [], 0
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    host = f"http://127.0.0.1:{server.server_port}/400"
    source = {"address": f"{host}/train/k400_train_path.txt", "corrected": f"{host}/corrected.tgz", "folder": "train"}
    (tmp_path / "rows/datasets").mkdir(parents=True)
    row = {"base": "kinetics400", "name": "mini", "parts_list": source}
    (tmp_path / "rows/datasets/mini.yaml").write_text(yaml.safe_dump(row))
    yield tmp_path / "rows"
    server.shutdown()


def fetch(rows, root, *more):
    command = [sys.executable, "-m", "scripts.dataset", "mini", "--rows", rows, "--fetch", root, *more]
    return subprocess.run(list(map(str, command)), cwd=ROOT, capture_output=True, text=True, timeout=60)


def test_all_of_it_side_by_side_and_nothing_twice(rows, tmp_path):
    Handler.troubles = {"part_2.tar.gz": "cut"}
    done = fetch(rows, tmp_path / "root", "--connections", 3)
    assert done.returncode == 0 and "6 of 6 archives, 16 videos" in done.stdout, done.stderr
    videos = {p.name: p.read_bytes() for p in (tmp_path / "root/train").iterdir() if p.suffix == ".mp4"}
    assert (
        len(videos) == 15
        and videos["v11_000001_000011.mp4"] == b"corrected"
        and videos["v42_000001_000011.mp4"] == bytes([4, 2]) * 40000
    )
    assert 1 < Handler.most <= 3 and Handler.asked[-1] == "corrected.tgz"
    assert not list((tmp_path / "root/.parts").glob("*gz")), "archives are removed"
    before = len(Handler.asked)
    again = fetch(rows, tmp_path / "root")
    assert again.returncode == 0 and "6 of 6 archives, 16 videos" in again.stdout
    assert Handler.asked[before:] == ["k400_train_path.txt"]


def test_what_fails_is_named_and_fetched_by_the_next_call(rows, tmp_path):
    Handler.troubles = {"part_1.tar.gz": "403", "part_3.tar.gz": "damaged"}
    done = fetch(rows, tmp_path / "root")
    assert done.returncode == 1 and "3 of 6 archives" in done.stdout, done.stdout + done.stderr
    assert "HTTP 403" in done.stderr
    assert (
        "part_3.tar.gz" in done.stderr
        and "3 of 6 archives did not arrive" in done.stderr
        and "Traceback" not in done.stderr
    )
    again = fetch(rows, tmp_path / "root")
    assert again.returncode == 0 and "6 of 6 archives, 16 videos" in again.stdout, again.stderr
    videos = {p.name: p.read_bytes() for p in (tmp_path / "root/train").glob("*.mp4")}
    assert len(videos) == 15 and videos["v11_000001_000011.mp4"] == b"corrected", (
        "the corrected ones go over the others"
    )
    note = tmp_path / "root/.parts/part_1.tar.gz.json"
    note.unlink()  # as if this part came anew
    assert fetch(rows, tmp_path / "root").returncode == 0
    assert (tmp_path / "root/train/v11_000001_000011.mp4").read_bytes() == b"corrected"


def test_a_share_and_what_is_refused(rows, tmp_path):
    done = fetch(rows, tmp_path / "root", "--only", "part_0.tar.gz")
    assert (
        done.returncode == 0
        and "1 of 1 archives, 3 videos" in done.stdout
        and len(list((tmp_path / "root/train").glob("*.mp4"))) == 3
    )
    assert "not in the list" in fetch(rows, tmp_path / "root", "--only", "part_9.tar.gz").stderr
    other = subprocess.run(
        [sys.executable, "-m", "scripts.dataset", "got10k", "--fetch", str(tmp_path / "x")],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert other.returncode == 1 and "no list of archives" in other.stderr and "got-10k" in other.stderr


@pytest.mark.parametrize(
    ("text", "said"),
    [("", "no address"), ("# only a remark\n", "no address"), ("<html>sorry</html>", "line 1"), ("http://a/x.txt", "line 1"),
     ("http://a/x.tgz\nhttp://b/x.tgz", "second archive"), ("file:///etc/x.tgz", "line 1"), ("http://a/.tgz", "line 1")],
)  # fmt: skip
def test_lists_that_are_none(text, said):
    with pytest.raises(Refusal, match=said):
        parse_list(text, "list")
