"""Downloads from a server on 127.0.0.1 that behaves in several ways."""

import hashlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from corrbench.errors import Refusal
from corrbench.weights.download import download

CONTENT = bytes(range(256)) * 4096  # 1 MiB
SHA = hashlib.sha256(CONTENT).hexdigest()


class Handler(BaseHTTPRequestHandler):
    requests: list = []  # noqa: RUF012

    def do_GET(self):
        start = int((self.headers.get("Range") or "bytes=0-")[6:-1])
        Handler.requests.append((self.path, start))
        if self.path == "/404":
            self.send_error(404)
            return
        if self.path == "/redirect":
            self.send_response(302)
            self.send_header("Location", "/file")
            self.end_headers()
            return
        body = CONTENT[start:]
        if start and start >= len(CONTENT):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(CONTENT)}")
            self.end_headers()
            return
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if self.path == "/flaky" and not start else body)

    def log_message(self, *args):
        pass


@pytest.fixture
def server():
    Handler.requests = []
    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=httpd.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{httpd.server_port}"
    httpd.shutdown()


def claim(value=SHA, how="refuse"):
    return {"algorithm": "sha256", "value": value, "on_mismatch": how}


def test_a_dead_address_is_followed_by_the_next(server, tmp_path):
    target = tmp_path / "a" / "w.pth"
    assert download([f"{server}/404", f"{server}/redirect"], target, size=len(CONTENT), claim=claim(SHA[:8])) is None
    assert target.read_bytes() == CONTENT and not list(target.parent.glob("*.part"))


def test_a_cut_download_is_kept_and_continued(server, tmp_path):
    target = tmp_path / "w.pth"
    with pytest.raises(Refusal, match="w.pth could not be downloaded"):
        download([f"{server}/flaky"], target)
    part = tmp_path / "w.pth.part"
    got = part.stat().st_size
    assert 0 < got < len(CONTENT) and not target.exists()
    download([f"{server}/flaky"], target, claim=claim())
    assert Handler.requests[-1] == ("/flaky", got)
    assert target.read_bytes() == CONTENT and [p.name for p in tmp_path.iterdir()] == ["w.pth"]


def test_what_one_address_began_another_does_not_continue(server, tmp_path):
    with pytest.raises(Refusal, match="could not be downloaded"):
        download([f"{server}/flaky"], tmp_path / "w.pth")
    download([f"{server}/file"], tmp_path / "w.pth", claim=claim())
    assert Handler.requests[-1] == ("/file", 0)


def test_a_complete_part_is_not_fetched_again(server, tmp_path):
    (tmp_path / "w.pth.part").write_bytes(CONTENT)
    (tmp_path / "w.pth.from").write_text(f"{server}/file")
    download([f"{server}/file"], tmp_path / "w.pth", claim=claim())
    assert (tmp_path / "w.pth").read_bytes() == CONTENT


def test_altered_content_is_refused_and_removed(server, tmp_path):
    with pytest.raises(Refusal, match="published is 00"):
        download([f"{server}/file"], tmp_path / "w.pth", claim=claim("00"))
    assert not list(tmp_path.iterdir())


def test_an_unconfirmed_hash_warns(server, tmp_path):
    assert "published is 00" in download([f"{server}/file"], tmp_path / "w.pth", claim=claim("00", "warn"))
    assert (tmp_path / "w.pth").exists()


def test_no_address_says_where_to_place_the_file(tmp_path):
    with pytest.raises(Refusal, match=r"place the file at .*w.pth yourself"):
        download([], tmp_path / "w.pth")


def test_a_wrong_size_is_refused(server, tmp_path):
    with pytest.raises(Refusal, match=f"{len(CONTENT)} of 5 bytes"):
        download([f"{server}/file"], tmp_path / "w.pth", size=5)
