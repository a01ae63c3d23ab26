"""Downloads from a server on 127.0.0.1 that misbehaves in every way that servers do."""

import fcntl
import hashlib
import json
import re
import threading
import time
import zlib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import pytest

from corrbench.download import download
from corrbench.errors import DiskFull, Refusal
from corrbench.files import digest

CONTENT = bytes(range(256)) * 4096  # 1 MiB
SHA = hashlib.sha256(CONTENT).hexdigest()
HALF = len(CONTENT) // 2


PAGES = {
    "page": "<html>please log in</html>",
    "confirm": """<!DOCTYPE html><html><head><title>Google Drive - Virus scan warning</title></head><body><p class="uc-warning-caption">
Google Drive can't scan this file for viruses.</p><p class="uc-warning-subcaption">large.pth (165M) is too large to scan.</p>
<form id="download-form" action="http://drive.usercontent.google.com/download" method="get"><input type="submit" id="uc-download-link"
 value="Download anyway"/><input type="hidden" name="id" value="LARGE"><input type="hidden" name="export" value="download"><input
 type="hidden" name="confirm" value="t"><input type="hidden" name="uuid" value="6f3c-17"></form></body></html>""".replace(
        "\n", ""
    ),
    "quota": """<html><head><title>Google Drive - Quota exceeded</title></head><body><p class="uc-error-caption">Sorry, you can't view or
download this file at this time.</p>
<p class="uc-error-subcaption">Too many users have viewed or downloaded this file recently. Please try accessing the file again later. If the
 file is too large, <b>it may take up to 24 hours</b>.</p></body></html>""",
    "login": "<html><head><title>Sign in - Google Accounts</title></head><body>Sign in</body></html>",
}
PAGES["quota"] = PAGES["quota"].replace("the\n file", "the file")


class Handler(BaseHTTPRequestHandler):
    """What happens is the first part of the path; a number after it says how often before the server behaves."""

    requests: list = []  # noqa: RUF012
    counts: dict = {}  # noqa: RUF012

    def drive(self, path):
        """As Google Drive answers: a small file at once, a large one after its form was sent with every hidden value."""
        if "drive.usercontent.google.com/download" in path:
            asked = parse_qs(urlsplit(path).query)
            confirmed = asked == {"id": asked["id"], "export": ["download"], "confirm": ["t"], "uuid": ["6f3c-17"]}
            return asked["id"][0].partition("-")[2] or "file" if confirmed else "confirm"
        kind = parse_qs(urlsplit(path).query)["id"][0]
        return "confirm" if kind.startswith("large") else kind

    def do_GET(self):
        path = self.path.partition("127.0.0.1:1")[2] or self.path  # asked as a proxy: the whole address
        start = int((self.headers.get("Range") or "bytes=0-")[6:-1])
        Handler.requests.append((self.path, start))
        if "drive.google.com/uc?" in path or "drive.usercontent.google.com" in path:
            kind, times = self.drive(path), ""
        else:
            kind, _, times = path.strip("/").partition("/")
        seen = Handler.counts[path] = Handler.counts.get(path, 0) + 1
        if times and seen > int(times):
            kind = "file"
        content, tag = CONTENT, '"one"'
        if kind == "changed" and seen > 1:
            content, tag = CONTENT[::-1], '"two"'
        if kind.isdigit():
            self.send_error(int(kind))
            return
        if kind == "redirect":
            self.send_response(302)
            self.send_header("Location", "/file")
            self.end_headers()
            return
        if kind == "loop":
            self.send_response(302)
            self.send_header("Location", "/loop")
            self.end_headers()
            return
        if kind == "empty":
            content = b""
        if kind in PAGES:
            content = PAGES[kind].replace("LARGE", parse_qs(urlsplit(path).query).get("id", [""])[0]).encode()
        if self.headers.get("If-Range") not in (None, tag) or kind == "noresume":
            start = 0
        if start and start >= len(content):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(content)}")
            self.end_headers()
            return
        body = content[start:]
        self.send_response(206 if start else 200)
        self.send_header("Content-Type", "text/html; charset=utf-8" if kind in PAGES else "application/octet-stream")
        promised = {"long": len(body) + 1000, "short": len(body) - 1000}.get(kind, len(body))
        if kind != "unknown":
            self.send_header("Content-Length", str(promised))
        self.send_header("ETag", tag)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.end_headers()
        try:
            if kind in ("cut", "changed", "noresume", "stall", "cutagain") and (not start or kind == "cutagain"):
                cut = len(body) // 2 if kind != "cutagain" else 1 << 17
                self.wfile.write(body[:cut] if kind != "noresume" or seen == 1 else body)
                self.wfile.flush()
                if kind == "stall":
                    time.sleep(3)
            else:
                self.wfile.write(body)
        except OSError:
            pass

    def log_message(self, *args):
        pass


@pytest.fixture
def server():
    Handler.requests, Handler.counts = [], {}
    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=httpd.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{httpd.server_port}"
    httpd.shutdown()


def claim(value=SHA, how="refuse"):
    return {"algorithm": "sha256", "value": value, "on_mismatch": how}


def fetch(addresses, target, **more):
    return download(addresses, target, **{"pause": 0.01, "stalled": 1.0, **more})


def whole(target):
    """The file is there, right, and alone."""
    return target.read_bytes() == CONTENT and [p.name for p in target.parent.iterdir()] == [target.name]


def test_dead_addresses_are_followed_by_the_next(server, tmp_path):
    dead = "http://127.0.0.1:9/nobody"
    addresses = [f"{server}/404", dead, f"{server}/500", f"{server}/loop", f"{server}/page", f"{server}/redirect"]
    assert fetch(addresses, tmp_path / "a" / "w.pth", size=len(CONTENT), claim=claim(SHA[:8])) is None
    assert whole(tmp_path / "a" / "w.pth")


def test_every_failure_is_said(server, tmp_path):
    addresses = [f"{server}/404", f"{server}/503", f"{server}/loop", f"{server}/page", "http://127.0.0.1:9/nobody"]
    with pytest.raises(Refusal) as refusal:
        fetch(addresses, tmp_path / "w.pth")
    text = str(refusal.value)
    for words in (
        "/404: HTTP 404 Not Found",
        "/503: HTTP 503 Service Unavailable (4 attempts without progress)",
        "/loop: Exceeded 30 redirects",
        "/page: answers with a web page instead of the file",
        "nobody: ",
        f"place the file at {tmp_path}/w.pth yourself",
    ):
        assert words in text
    assert not (tmp_path / "w.pth").exists()


@pytest.mark.parametrize("kind", ["cut", "stall"])
def test_a_cut_or_stalled_download_goes_on_where_it_stopped(server, tmp_path, kind):
    fetch([f"{server}/{kind}"], tmp_path / "w.pth", claim=claim())
    assert Handler.requests == [(f"/{kind}", 0), (f"/{kind}", HALF)]
    assert whole(tmp_path / "w.pth")


def test_a_server_that_is_down_for_a_moment_is_asked_again(server, tmp_path):
    fetch([f"{server}/503/2"], tmp_path / "w.pth", claim=claim())
    assert len(Handler.requests) == 3 and whole(tmp_path / "w.pth")


def test_progress_counts_as_hope(server, tmp_path):
    """A connection that is cut again and again, but brings bytes each time, is followed to the end."""
    fetch([f"{server}/cutagain"], tmp_path / "w.pth", claim=claim())
    assert len(Handler.requests) == 8 and whole(tmp_path / "w.pth")


def test_a_server_that_cannot_continue_starts_over(server, tmp_path):
    fetch([f"{server}/noresume"], tmp_path / "w.pth", claim=claim())
    assert [start for _, start in Handler.requests] == [0, HALF] and whole(tmp_path / "w.pth")


def test_content_that_changed_meanwhile_is_not_glued_to_the_old(server, tmp_path):
    fetch([f"{server}/changed"], tmp_path / "w.pth")
    assert (tmp_path / "w.pth").read_bytes() == CONTENT[::-1]


def begun(folder, address, content, **note):
    """What an interrupted call leaves behind."""
    name = f"w.pth.{digest(address, 8)}"
    (folder / f"{name}.part").write_bytes(content)
    (folder / f"{name}.from").write_text(json.dumps({"address": address, **note}))


def test_a_killed_download_is_continued_by_the_next_call(server, tmp_path):
    begun(tmp_path, f"{server}/file", CONTENT[:1000], validator='"one"')
    fetch([f"{server}/file"], tmp_path / "w.pth", claim=claim())
    assert Handler.requests == [("/file", 1000)] and whole(tmp_path / "w.pth")


def test_what_one_address_began_another_does_not_continue(server, tmp_path):
    begun(tmp_path, f"{server}/other", CONTENT[:1000])
    fetch([f"{server}/file"], tmp_path / "w.pth", claim=claim())
    assert Handler.requests == [("/file", 0)] and whole(tmp_path / "w.pth")


def test_without_a_validator_only_a_hash_allows_to_go_on(server, tmp_path):
    begun(tmp_path, f"{server}/file", CONTENT[:1000])
    fetch([f"{server}/file"], tmp_path / "w.pth")
    assert Handler.requests == [("/file", 0)] and whole(tmp_path / "w.pth")


def test_a_dead_address_does_not_cost_what_another_began(server, tmp_path):
    begun(tmp_path, f"{server}/file", CONTENT[:1000], validator='"one"')
    fetch([f"{server}/404", f"{server}/file"], tmp_path / "w.pth", claim=claim())
    assert Handler.requests[-1] == ("/file", 1000) and whole(tmp_path / "w.pth")
    assert not list(tmp_path.glob("w.pth.*"))


def test_a_complete_part_is_not_fetched_again(server, tmp_path):
    begun(tmp_path, f"{server}/file", CONTENT)
    fetch([f"{server}/file"], tmp_path / "w.pth", claim=claim())
    assert whole(tmp_path / "w.pth")


def test_a_length_that_is_never_reached_is_not_believed(server, tmp_path):
    with pytest.raises(Refusal, match=r"/long: its file has 1049576 bytes, expected are 1048576"):
        fetch([f"{server}/long"], tmp_path / "w.pth", size=len(CONTENT))
    assert not (tmp_path / "w.pth").exists()
    fetch([f"{server}/long"], tmp_path / "w.pth")  # asked for the rest, the server tells the true length
    assert Handler.requests[-1] == ("/long", len(CONTENT)) and whole(tmp_path / "w.pth")


def test_a_length_that_is_too_small_is_caught_by_size_or_hash(server, tmp_path):
    with pytest.raises(Refusal, match=r"/short: its file has 1047576 bytes, expected are 1048576"):
        fetch([f"{server}/short"], tmp_path / "w.pth", size=len(CONTENT))
    with pytest.raises(Refusal, match="published is"):
        fetch([f"{server}/short"], tmp_path / "w.pth", claim=claim())
    assert not (tmp_path / "w.pth").exists()


def test_no_length_at_all_is_enough_with_a_size(server, tmp_path):
    fetch([f"{server}/unknown"], tmp_path / "w.pth", size=len(CONTENT), claim=claim())
    assert whole(tmp_path / "w.pth")
    with pytest.raises(Refusal, match="sends more than the 5 bytes"):
        fetch([f"{server}/unknown"], tmp_path / "x.pth", size=5)


def test_altered_content_is_refused_and_removed(server, tmp_path):
    with pytest.raises(Refusal, match="published is 00"):
        fetch([f"{server}/file"], tmp_path / "w.pth", claim=claim("00"))
    assert not list(tmp_path.iterdir())


def test_an_unconfirmed_hash_warns(server, tmp_path):
    assert "published is 00" in fetch([f"{server}/file"], tmp_path / "w.pth", claim=claim("00", "warn"))
    assert (tmp_path / "w.pth").exists()


def test_git_blob_hashes(server, tmp_path):
    blob = hashlib.sha1(b"blob 1048576\0" + CONTENT).hexdigest()
    fetch([f"{server}/cut"], tmp_path / "w.pth", claim={"algorithm": "git-blob", "value": blob})
    assert whole(tmp_path / "w.pth")


def test_a_proxy_of_the_environment_is_used(server, tmp_path, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", server)
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    fetch(["http://127.0.0.1:1/file"], tmp_path / "w.pth", claim=claim())
    assert Handler.requests[0][0] == "http://127.0.0.1:1/file" and whole(tmp_path / "w.pth")


def test_no_address_says_where_to_place_the_file(tmp_path):
    with pytest.raises(Refusal, match=r"place the file at .*w.pth; the row that names it"):
        fetch([], tmp_path / "w.pth")


@pytest.mark.parametrize(("kind", "said"), [("file", "are to come, 0.0 GB are free"), ("unknown", "the disk is full")])
def test_no_room_ends_it_at_once(server, small_disk, kind, said):
    with pytest.raises(DiskFull, match=said):
        fetch([f"{server}/{kind}", f"{server}/file"], small_disk / "w.pth")
    assert len(Handler.requests) == 1, "nothing that another try or another address could mend"


def test_an_empty_file_that_nobody_promised_is_refused(server, tmp_path):
    with pytest.raises(Refusal, match="w.pth: an empty file came from"):
        fetch([f"{server}/empty"], tmp_path / "w.pth")
    assert not list(tmp_path.iterdir())


def test_what_came_without_anything_to_compare_is_said(server, tmp_path):
    assert f"1048576 bytes, sha256 {SHA}" in fetch([f"{server}/file"], tmp_path / "w.pth")
    assert fetch([f"{server}/file"], tmp_path / "w.pth", size=len(CONTENT)) is None


def test_a_part_that_was_damaged_is_not_continued(server, tmp_path):
    """Without a hash its own checksum tells, with one the hash at the end; then all is fetched again."""
    address = f"{server}/file"
    begun(tmp_path, address, b"x" + CONTENT[1:1000], validator='"one"', bytes=1000, crc32=zlib.crc32(CONTENT[:1000]))
    fetch([address], tmp_path / "w.pth", size=len(CONTENT))
    assert Handler.requests == [("/file", 0)] and whole(tmp_path / "w.pth")
    begun(tmp_path, address, CONTENT[:1500], validator='"one"', bytes=1000, crc32=zlib.crc32(CONTENT[:1000]))
    fetch([address], tmp_path / "w.pth", size=len(CONTENT))
    assert Handler.requests[1:] == [("/file", 1000)] and whole(tmp_path / "w.pth")
    begun(tmp_path, address, b"x" + CONTENT[1:1000], validator='"one"')
    fetch([address], tmp_path / "w.pth", claim=claim())
    assert Handler.requests[2:] == [("/file", 1000), ("/file", 0)] and whole(tmp_path / "w.pth")


def test_two_at_once(server, tmp_path):
    with (tmp_path / ".w.pth.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(Refusal, match="another run is writing it"):
            fetch([f"{server}/file"], tmp_path / "w.pth")
    assert not Handler.requests


def test_files_beside_it_stay(server, tmp_path):
    for name in ("w.pth.mine.part", "w.pth.from"):
        (tmp_path / name).write_text("mine")
    fetch([f"{server}/file"], tmp_path / "w.pth", claim=claim())
    assert sorted(p.name for p in tmp_path.iterdir()) == ["w.pth", "w.pth.from", "w.pth.mine.part"]


@pytest.mark.parametrize("address", ["nonsense", "http://a..b/x", "htp://x/y", "http://[::1/x"])
def test_what_is_no_address_is_said_at_once(tmp_path, address):
    with pytest.raises(Refusal, match="could not be downloaded"):
        download([address], tmp_path / "w.pth", pause=100)
    with pytest.raises(Refusal, match="a folder"):
        download([address], tmp_path)


@pytest.fixture
def drive(server, monkeypatch):
    """Google Drive, asked through a proxy on this machine; the addresses of rows begin with https."""
    monkeypatch.setenv("http_proxy", server)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    return "http://drive.google.com/uc?export=download&id="


@pytest.mark.parametrize("file", ["file", "large", "large-cut", "large-stall"])
def test_files_of_google_drive(drive, tmp_path, file):
    """A small one, a large one behind its form, and one that is cut or stalls, and goes on where it stopped."""
    target = tmp_path / "weights.pth"
    assert fetch([drive + file], target, claim=claim()) is None and whole(target)
    starts = [start for path, start in Handler.requests if "usercontent" in path]
    assert starts == {"file": [], "large": [0]}.get(file, [0, HALF])


@pytest.mark.parametrize(
    ("file", "said"), [("quota", "limit of downloads a day (Too many users"), ("login", "without a login")]
)
def test_what_google_drive_does_not_give(drive, tmp_path, file, said):
    """Its page is said in words, asked for once, and the next address is tried."""
    with pytest.raises(Refusal, match=re.escape(said)) as refused:
        fetch([drive + file], tmp_path / "weights.pth")
    assert "place the file at" in str(refused.value) and "<b>" not in str(refused.value) and len(Handler.requests) == 1
    assert fetch([drive + file, drive + "large"], tmp_path / "weights.pth", claim=claim()) is None
