"""Pages hold under a strict content security policy, read aloud well, and ask nobody outside."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest
from django.urls import reverse

from tests.studies import answered, film_bytes, take_in, turned_down

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("data_dir")]
VOID = {"meta", "link", "input", "img", "image", "br"}


class Elements(HTMLParser):
    """Every element of a page with its attributes, and which were left open."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.wrong: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        if tag not in VOID and (not self.open or self.open.pop() != tag):
            self.wrong.append(tag)


@pytest.fixture(
    params=[
        "empty",
        "worklist",
        "found",
        "likely",
        "viewer",
        "unlikely",
        "waiting",
        "refused",
        "error",
        "sent",
    ]
)
def page(request, client) -> Elements:
    def study(made) -> str:
        return reverse("study", args=[made.number])

    if request.param == "sent":
        return Elements(client.post(reverse("upload")).content.decode())
    address = {
        "empty": lambda: "/",
        "worklist": lambda: (answered(), take_in(film_bytes(2)), "/")[-1],
        "found": lambda: (answered(), "/?q=film")[-1],
        "likely": lambda: study(answered()),
        "viewer": lambda: reverse("viewer", args=[answered().number]),
        "unlikely": lambda: study(answered(answer="unlikely", regions=())),
        "waiting": lambda: study(take_in()),
        "refused": lambda: study(turned_down("page_of_text")),
        "error": lambda: "/nothing",
    }[request.param]()
    return Elements(client.get(address).content.decode())


def test_it_closes_what_it_opens(page):
    assert page.wrong == []
    assert page.open == []


def test_it_has_no_script_or_style_of_its_own(page):
    for tag, attributes in page.found:
        assert tag != "style"
        assert "style" not in attributes
        assert not [name for name in attributes if name.startswith("on")]
        assert tag != "script" or attributes.get("src")


def test_it_loads_everything_from_this_server(page):
    addresses = [
        value
        for _, attributes in page.found
        for name, value in attributes.items()
        if name in {"src", "href", "action", "srcset"} and value
    ]
    assert addresses
    assert all(re.match(r"[/?#](?!/)", address) for address in addresses), addresses


def test_it_uses_every_id_once(page):
    ids = [attributes["id"] for _, attributes in page.found if "id" in attributes]
    assert len(ids) == len(set(ids))


def test_it_has_one_main_heading(page):
    assert [tag for tag, _ in page.found].count("h1") == 1


def test_it_names_every_field_and_picture(page):
    labelled = {attributes.get("for") for tag, attributes in page.found if tag == "label"}
    for tag, attributes in page.found:
        if tag in {"input", "select"} and attributes.get("type") not in {"hidden", "checkbox"}:
            assert attributes.get("aria-label") or attributes.get("id") in labelled, attributes
        if tag == "img":
            assert "alt" in attributes
        if tag == "svg":
            assert "aria-hidden" in attributes or "aria-label" in attributes


def test_its_pictograms_are_all_drawn(page, root):
    sprite = (root / "app/static/clinic/icons.svg").read_text(encoding="utf-8")
    used = [a["href"].partition("#")[2] for tag, a in page.found if tag == "use"]

    assert used
    assert all(f'id="{name}"' in sprite for name in used)


def test_its_files_name_no_other_server(root):
    for path in [*(root / "app/static").rglob("*.*"), *(root / "app/templates").rglob("*.html")]:
        text = path.read_text(encoding="utf-8", errors="replace")
        text = text.replace("http://www.w3.org/2000/svg", "")
        assert not re.search(r"https?://|@import|url\(", text), path


def test_the_sheet_mirrors_for_languages_that_read_from_the_right(root):
    sheet = (root / "app/static/clinic/clinic.css").read_text(encoding="utf-8")

    assert not re.search(r"(margin|padding|border)-(left|right)", sheet)
    assert not re.search(r"[{;]\s*(left|right|float)\s*:", sheet)
    assert not re.search(r"text-align:\s*(left|right)", sheet)


def test_it_weighs_less_than_three_hundred_kilobytes(client, root):
    answered()

    static = sum(path.stat().st_size for path in (root / "app/static").rglob("*.*"))
    assert static + len(client.get("/").content) < 300_000
