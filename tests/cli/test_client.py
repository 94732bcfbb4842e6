"""`latentd reproduce` against a service with tokens and beside proxies. tests/e2e asks a real service."""

import io
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from PIL import Image

from latentd.cli.client import proxy_for
from latentd.cli.main import latentd
from latentd.models.encoding.metadata import embed_metadata, read_metadata

SECRET = "client-0123456789abcdef"  # noqa: S105  # of a test
OTHER = SECRET[::-1]
PROVENANCE = '{"fingerprint": "0123456789ab", "model": "m", "version": "1", "seed": 7}'
VARIABLES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "LATENTD_TOKEN")
NOWHERE = "http://user:hidden@127.0.0.1:9"


class Peer(ThreadingHTTPServer):
    """A service with a token, or a proxy in front of one: answers each POST with the file."""

    def __init__(self, file: bytes) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.file = file
        self.targets: list[str] = []
        """What each request line named."""

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    server: Peer

    def do_POST(self) -> None:
        self.server.targets.append(self.path)
        self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers["Authorization"] == f"Bearer {SECRET}":
            status, body = 200, self.server.file
        else:
            status = 401 if self.headers["Authorization"] is None else 400
            body = b'{"error": {"code": "unauthorized", "message": "a token is needed", "field": null}}'
            if status == 400:
                body = b'{"error": {"code": "invalid_request", "message": "unknown field", "field": "steps"}}'
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    buffer = io.BytesIO()
    Image.new("L", (4, 4)).save(buffer, "PNG")
    file = tmp_path / "s.png"
    file.write_bytes(embed_metadata(buffer.getvalue(), "png", PROVENANCE))
    assert read_metadata(file.read_bytes()) == PROVENANCE
    return file


@pytest.fixture
def peer(picture: Path) -> Iterator[Peer]:
    with Peer(picture.read_bytes()) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


def reproduce(picture: Path, url: str, *options: str | Path, **variables: str) -> Result:
    return CliRunner().invoke(latentd, ["reproduce", str(picture), "--url", url, *map(str, options)], env=variables)


@pytest.mark.parametrize("content", [SECRET, f"{SECRET}\r\n", f"\ufeff{SECRET}\n"])
def test_the_token_is_read_from_a_file_or_a_variable(picture: Path, peer: Peer, tmp_path: Path, content: str) -> None:
    file = tmp_path / "token"
    file.write_text(content, encoding="utf-8", newline="")
    url = f"http://{peer.address}"
    by_file = reproduce(picture, url, "--token-file", file, LATENTD_TOKEN=OTHER)
    assert (by_file.exit_code, "the same bytes" in by_file.output) == (0, True), by_file.output
    by_variable = reproduce(picture, url, LATENTD_TOKEN=content)
    assert (by_variable.exit_code, "the same bytes" in by_variable.output) == (0, True), by_variable.output
    by_option = reproduce(picture, url, "--token", content, LATENTD_TOKEN=OTHER)
    assert (by_option.exit_code, "the same bytes" in by_option.output) == (0, True), by_option.output
    assert SECRET not in by_file.output + by_variable.output + by_option.output
    twice = reproduce(picture, url, "--token", SECRET, "--token-file", file)
    assert (twice.exit_code, "either --token or --token-file" in twice.output) == (2, True)


def test_without_a_token_the_error_says_how_to_give_it(picture: Path, peer: Peer) -> None:
    told = reproduce(picture, f"http://{peer.address}")
    assert told.exit_code == 1
    assert "unauthorized: a token is needed; give it by --token, by --token-file or in LATENTD_TOKEN" in told.output


def test_errors_of_the_service_name_the_field(picture: Path, peer: Peer) -> None:
    told = reproduce(picture, f"http://{peer.address}", LATENTD_TOKEN=OTHER)
    assert "invalid_request: steps: unknown field" in told.output


@pytest.mark.parametrize("content", [b"", b"two words", b"caf\xc3\xa9", b"\xff\xfea\0b\0", b"a\x07b"])
def test_a_file_that_holds_no_token_is_refused_without_quoting_it(
    picture: Path, peer: Peer, tmp_path: Path, content: bytes
) -> None:
    file = tmp_path / "token"
    file.write_bytes(content)
    told = reproduce(picture, f"http://{peer.address}", "--token-file", file)
    assert told.exit_code == 2
    assert told.output.splitlines()[-1].startswith(f"error: {file} ")
    assert "two" not in told.output
    assert peer.targets == []


@pytest.mark.parametrize("variable", ["HTTP_PROXY", "http_proxy", "ALL_PROXY"])
@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_this_machine_is_asked_directly_in_spite_of_proxies(
    picture: Path, peer: Peer, host: str, variable: str
) -> None:
    url = f"http://{host}:{peer.server_address[1]}"
    told = reproduce(picture, url, LATENTD_TOKEN=SECRET, **{variable: NOWHERE})
    assert told.exit_code == 0, told.output
    assert peer.targets == ["/generate"]


def test_other_machines_are_asked_through_the_proxy(picture: Path, peer: Peer) -> None:
    told = reproduce(picture, "http://latentd.example:3000", LATENTD_TOKEN=SECRET, HTTP_PROXY=f"http://{peer.address}")
    assert told.exit_code == 0, told.output
    assert peer.targets == ["http://latentd.example:3000/generate"]


def test_errors_name_the_proxy_without_its_password(picture: Path, peer: Peer) -> None:
    told = reproduce(picture, "http://latentd.example", HTTP_PROXY=NOWHERE)
    assert told.exit_code == 1
    assert "http://latentd.example cannot be reached through the proxy http://127.0.0.1:9 " in told.output
    assert "hidden" not in told.output
    refused = reproduce(picture, "http://latentd.example", HTTP_PROXY=f"http://user:hidden@{peer.address}")
    assert f"through the proxy http://{peer.address} " in refused.output
    assert "hidden" not in refused.output


@pytest.mark.parametrize(
    ("url", "proxy"),
    [
        ("http://127.8.9.1:3000", None),
        ("http://[::1]:3000", None),
        ("http://0.0.0.0:3000", None),
        ("http://LOCALHOST:3000", None),
        ("http://a.localhost", None),
        ("http://inside.example", None),
        ("http://user@inside.example:3000", None),
        ("http://at-port.example:3000", None),
        ("http://at-port.example:3001", "http://proxy:3128"),
        ("http://10.1.2.3:3000", None),
        ("http://11.1.2.3:3000", "http://proxy:3128"),
        ("http://[fd00::7]:3000", None),
        ("http://192.168.0.7:3000", "http://proxy:3128"),
        ("https://latentd.example", "http://secure:3128"),
        ("http://localhost.example", "http://proxy:3128"),
    ],
)
def test_which_proxy_is_asked(monkeypatch: pytest.MonkeyPatch, url: str, proxy: str | None) -> None:
    monkeypatch.setenv("HTTP_PROXY", "proxy:3128")
    monkeypatch.setenv("HTTPS_PROXY", "http://secure:3128")
    monkeypatch.setenv("NO_PROXY", "inside.example, at-port.example:3000,10.0.0.0/8,fd00::/8")
    assert proxy_for(url) == proxy


@pytest.mark.parametrize("proxy", ["http://[::1", "http://proxy:port", "nonsense://proxy", "socks5://127.0.0.1:9"])
def test_an_invalid_proxy_is_named_in_one_line(picture: Path, proxy: str) -> None:
    told = reproduce(picture, "http://latentd.example", HTTP_PROXY=proxy)
    assert told.exit_code == 1
    assert f"http://latentd.example cannot be reached through the proxy {proxy} " in told.output.splitlines()[-1]


def test_certificates_that_cannot_be_read_are_reported_in_one_line(picture: Path, tmp_path: Path) -> None:
    told = reproduce(picture, "https://127.0.0.1:1", SSL_CERT_FILE=str(tmp_path / "none"))
    assert told.exit_code == 1
    assert "https://127.0.0.1:1 cannot be reached: " in told.output.splitlines()[-1]


@pytest.mark.parametrize("url", ["", "nonsense", "http://[::1", "http://127.0.0.1:port", "ftp://127.0.0.1"])
def test_an_invalid_address_is_reported_in_one_line(picture: Path, url: str) -> None:
    told = reproduce(picture, url)
    assert told.exit_code == 1
    assert "cannot be reached" in told.output.splitlines()[-1]
