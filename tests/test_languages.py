"""Every word of the pages is marked for translation, and every language says all of them."""

from __future__ import annotations

import ast
import datetime as dt
import gettext
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
from django.conf import settings
from django.test import Client
from django.urls import reverse
from django.utils import translation
from django.utils.formats import date_format, number_format

from app import language
from app.borrowed_words import BORROWED, BORROWED_PLURALS
from app.models import Site
from tests.people import browser, browser_of, enter
from tests.studies import answered, take_in, turned_down

LANGUAGES = [code for code, _ in settings.LANGUAGES if code != "en"]
PLACEHOLDER = re.compile(r"%\(\w+\)[sd]|%%|%[sd]|\{\w+\}")


def gettext_tools() -> None:
    """CI must have them: a skipped check of the catalogs proves nothing."""
    if not shutil.which("xgettext"):
        pytest.skip("no gettext on this machine (Debian: apt-get install gettext)")


@pytest.fixture(scope="module")
def template(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The catalog that the sources of today ask for, freshly extracted."""
    gettext_tools()
    folder = tmp_path_factory.mktemp("extracted")
    shutil.copytree(
        root / "app",
        folder / "app",
        ignore=shutil.ignore_patterns("locale", "static", "__pycache__", "migrations"),
    )
    (folder / "app" / "locale").mkdir()
    command = [sys.executable, "-m", "django", "makemessages", "--keep-pot", "-l", "fr"]
    done = subprocess.run(
        [*command, "--no-wrap", "--no-location"],
        cwd=folder / "app",
        capture_output=True,
        text=True,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(root)},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return folder / "app" / "locale" / "django.pot"


def entries(path: Path) -> dict[str, tuple[str, ...]]:
    """Each message (context and plural included in its key) and its translations, in order."""
    found: dict[str, tuple[str, ...]] = {}
    for block in re.split(r"\n\s*\n", path.read_text(encoding="utf-8")):
        if block.lstrip().startswith("#~"):
            continue
        parts: dict[str, str] = {}
        name = ""
        for line in block.splitlines():
            if match := re.match(r'(msg\w+(?:\[\d\])?) (".*")$', line):
                name, text = match.groups()
                parts[name] = ast.literal_eval(text)
            elif line.startswith('"') and name:
                parts[name] += ast.literal_eval(line)
        if parts.get("msgid"):
            key = "\x04".join(p for p in (parts.get("msgctxt"), parts["msgid"]) if p)
            key += "\x00" + parts["msgid_plural"] if "msgid_plural" in parts else ""
            found[key] = tuple(text for n, text in sorted(parts.items()) if n.startswith("msgstr"))
    return found


def catalog(root: Path, code: str) -> Path:
    return root / "app" / "locale" / code / "LC_MESSAGES" / "django.po"


@pytest.mark.parametrize("code", LANGUAGES)
class TestEveryLanguage:
    def test_it_has_all_of_todays_words_and_no_others(self, root, template, code):
        wanted, there = entries(template), entries(catalog(root, code))

        assert sorted(wanted.keys() - there.keys()) == []
        assert sorted(there.keys() - wanted.keys()) == []

    def test_it_is_complete(self, root, code):
        text = catalog(root, code).read_text(encoding="utf-8")
        untranslated = [key for key, said in entries(catalog(root, code)).items() if not all(said)]

        assert untranslated == []
        assert "#, fuzzy" not in text

    def test_it_keeps_every_placeholder(self, root, code):
        for key, said in entries(catalog(root, code)).items():
            wanted = {*PLACEHOLDER.findall(key.rpartition("\x04")[2])}
            for text in said:
                assert {*PLACEHOLDER.findall(text)} <= wanted, (key, text)
            # A form for one or two may say the number as a word; the last is for many
            assert {*PLACEHOLDER.findall(said[-1])} == wanted, (key, said[-1])

    def test_what_is_compiled_says_the_same(self, root, code):
        with catalog(root, code).with_suffix(".mo").open("rb") as file:
            compiled = gettext.GNUTranslations(file)
        for key, said in entries(catalog(root, code)).items():
            if "\x00" not in key and "\x04" not in key:
                assert compiled.gettext(key) == said[0]

    def test_its_file_says_whether_a_native_reader_has_been_through(self, root, code):
        text = catalog(root, code).read_text(encoding="utf-8")

        assert ("X-Translated-By: machine" in text) == (code in language.AWAITING_READER)

    def test_it_says_what_pages_borrow_from_django(self, code):
        with translation.override(code):
            same = [words for words in BORROWED if str(translation.gettext(words)) == words]
            plurals = [
                str(words % {"min_length": 8, "limit_value": 8, "show_value": 9})
                if "%(" in str(words)
                else str(words % 8)
                for words in BORROWED_PLURALS
            ]

        assert same == []
        assert not [words for words in plurals if re.search(r"password|Ensure", words)]


class Words(HTMLParser):
    """What a person reads of a page: text, labels, titles, placeholders; not what is data."""

    SAID = ("title", "alt", "placeholder", "aria-label")
    QUIET = ("script", "style", "bdi", "code", "time")

    def __init__(self, html: str) -> None:
        super().__init__()
        self.words: list[str] = []
        self._open: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        if tag not in ("meta", "link", "input", "img", "image", "br", "use", "hr", "wbr"):
            self._open.append(tag)
        for name, value in attrs:
            if name in self.SAID or name.startswith("data-words"):
                self.words.append(value or "")

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if self._open and self._open[-1] == tag:
            self._open.pop()

    def handle_endtag(self, tag):
        while self._open and self._open.pop() != tag:
            continue

    def handle_data(self, data):
        if not any(tag in self.QUIET for tag in self._open):
            self.words.append(data)


def markup_left(template: Path) -> list[str]:
    """Words of a template that no translation tag surrounds."""
    text = template.read_text(encoding="utf-8")
    text = re.sub(r"{%\s*blocktranslate.*?endblocktranslate\s*%}", "", text, flags=re.S)
    text = re.sub(r"{%\s*comment.*?endcomment\s*%}|{#.*?#}", "", text, flags=re.S)
    text = re.sub(r"{%\s*block main_class\s*%}.*?{%\s*endblock\s*%}", "", text)
    text = re.sub(r"{%.*?%}|{{.*?}}", "", text, flags=re.S)
    text = re.sub(r"<(script|style).*?</\1>", "", text, flags=re.S)
    return [words.strip() for words in Words(text).words if re.search(r"[^\W\d_]{2,}", words)]


#: Said the same in every language.
OF_EVERY_LANGUAGE = {
    "ClinicCXR",
    "ClinicCXR ·",
    "(OpenAPI 3.1)",
    "Esc",
    "SpO₂",
    "QR",
    "px",
    "CSV",
    "DICOM",
    "PA",
    "AP",
}


def test_no_template_says_a_word_that_is_not_marked_for_translation(root):
    left = {
        path.relative_to(root): words
        for path in sorted((root / "app" / "templates").rglob("*.html"))
        if (words := [w for w in markup_left(path) if w not in OF_EVERY_LANGUAGE])
    }

    assert left == {}


def test_no_script_says_a_sentence_of_its_own(root):
    """Scripts get their words from the page, in data-words attributes."""
    said = {}
    for path in sorted((root / "app" / "static" / "clinic").glob("*.js")):
        text = re.sub(
            r"/\*.*?\*/|^\s*//.*$|\s//\s.*$", "", path.read_text("utf-8"), flags=re.S | re.M
        )
        quoted = re.findall(r"\"([^\"\n]+)\"|'([^'\n]+)'|`([^`]+)`", text)
        sentences = [a or b or c for a, b, c in quoted]
        found = [s for s in sentences if re.match(r"[A-Z][a-z]+ [a-z]+", s)]
        if found:
            said[path.name] = found

    assert said == {}


#: A language of the tests' own: every marked word stands in brackets, all others stand out.
PSEUDO = "eo"


@pytest.fixture
def pseudo(template: Path, tmp_path: Path, settings) -> str:
    messages = tmp_path / PSEUDO / "LC_MESSAGES"
    messages.mkdir(parents=True)
    lines = ['msgid ""\nmsgstr "Content-Type: text/plain; charset=UTF-8\\n"\n']
    for key in entries(template):
        context, _, rest = key.rpartition("\x04")
        singular, _, plural = rest.partition("\x00")

        def quoted(text: str) -> str:
            return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'

        line = f"msgctxt {quoted(context)}\n" if context else ""
        line += f"msgid {quoted(singular)}\n"
        if plural:
            line += f"msgid_plural {quoted(plural)}\n"
            line += f"msgstr[0] {quoted(f'⟦{singular}⟧')}\nmsgstr[1] {quoted(f'⟦{plural}⟧')}\n"
        else:
            line += f"msgstr {quoted(f'⟦{singular}⟧')}\n"
        lines.append(line)
    (messages / "django.po").write_text("\n".join(lines), encoding="utf-8")
    subprocess.run(["msgfmt", "-o", messages / "django.mo", messages / "django.po"], check=True)
    settings.LOCALE_PATHS = [tmp_path]
    settings.LANGUAGES = [*settings.LANGUAGES, (PSEUDO, "⟦Pseudo⟧")]
    from django.utils.translation import trans_real

    trans_real._translations.pop(PSEUDO, None)
    trans_real.get_languages.cache_clear()
    yield PSEUDO
    trans_real._translations.pop(PSEUDO, None)
    trans_real.get_languages.cache_clear()


def bare_words(html: str) -> list[str]:
    """Words of a page that came past the catalog."""
    bare = [re.sub(r"⟦[^⟦⟧]*(?:⟦[^⟦⟧]*⟧[^⟦⟧]*)*⟧", "", words) for words in Words(html).words]
    return [" ".join(words.split()) for words in bare if re.search(r"[^\W\d_]{3,}", words)]


#: What pages show that is nobody's words: names of languages, of models and of this program.
NOT_WORDS = re.compile(
    "|".join(
        [
            *(re.escape(name) for _, name in settings.LANGUAGES),
            r"chest-\w+@[\d.]+",
            r"ClinicCXR [\d.]+",
            r"administrator\S*",
            r"film\.png",
            r"JPEG|PNG|DICOM|TIFF|BMP|WebP",
        ]
    )
)


@pytest.mark.django_db
@pytest.mark.usefixtures("data_dir")
class TestPagesInALanguageOfBrackets:
    """A page that is rendered wholly out of the catalog has every word in brackets."""

    def every_page(self) -> dict[str, str]:
        study = answered(answer="likely")
        refused = turned_down("page_of_text", seed=2)
        waiting = take_in()
        names = [
            "worklist", "people", "new-person", "audit", "site", "password",
        ]  # fmt: skip
        pages = {name: reverse(name) for name in names}
        for kind, made in (("likely", study), ("refused", refused), ("waiting", waiting)):
            pages[kind] = reverse("study", args=[made.number])
        return pages

    def test_every_word_comes_from_the_catalog(self, administrator, pseudo):
        administrator.language = pseudo
        administrator.save()
        client = browser_of(administrator)
        bare = {}
        for name, address in self.every_page().items():
            response = client.get(address)
            assert response.status_code == 200, name
            html = response.content.decode()
            assert "⟦" in html, name
            words = [w for w in bare_words(html) if NOT_WORDS.sub("", w).strip(" ·,.–@:")]
            if words:
                bare[name] = words

        assert bare == {}


@pytest.mark.django_db
class TestWhichLanguage:
    def language_of(self, client: Client, **headers: str) -> str:
        return client.get("/log-in", headers=headers).headers["Content-Language"]

    def test_before_anybody_chose_it_is_the_browsers(self, site):
        assert self.language_of(Client(), accept_language="pt-BR,pt;q=0.9") == "pt"

    def test_a_language_that_nobody_knows_falls_back_to_english(self, site):
        assert self.language_of(Client(), accept_language="xx") == "en"

    def test_the_clinics_goes_before_the_browsers(self, site):
        Site.objects.update(language="sw")

        assert self.language_of(Client(), accept_language="fr") == "sw"

    def test_what_was_chosen_in_this_browser_goes_before_the_clinics(self, site):
        Site.objects.update(language="sw")
        client = Client()
        client.post("/language", {"language": "hi"})

        assert self.language_of(client) == "hi"

    def test_a_users_own_goes_before_all(self, site):
        Site.objects.update(language="sw")
        client = browser_of(enter("clinician", language="ar"))
        client.cookies["clinic_language"] = "fr"

        page = client.get("/")

        assert page.headers["Content-Language"] == "ar"
        assert '<html lang="ar" dir="rtl">' in page.content.decode()

    def test_choosing_one_is_kept_for_the_user(self, site):
        user = enter("health_worker")
        client = browser_of(user)

        response = client.post("/language", {"language": "fr", "next": "/?q=a"})

        user.refresh_from_db()
        assert user.language == "fr"
        assert response.headers["Location"] == "/?q=a"

    def test_it_sends_nobody_to_another_site(self, site):
        response = Client().post("/language", {"language": "fr", "next": "//evil.example"})

        assert response.headers["Location"] == "/"

    def test_a_language_that_is_not_there_is_refused(self, site):
        assert Client().post("/language", {"language": "tlh"}).status_code == 400

    def test_a_machines_translation_says_so(self, site):
        client = browser("read_only")
        client.post("/language", {"language": "fr"})
        page = client.get("/").content.decode()

        with translation.override("fr"):
            assert str(language.NOTICE) in page
        client.post("/language", {"language": "en"})
        assert "made by a machine" not in client.get("/").content.decode()


@pytest.mark.parametrize(
    ("code", "day", "number"),
    [
        ("en", "24 November 2026", "1,234.5"),
        ("fr", "24 novembre 2026", "1\xa0234,5"),
        ("pt", "24 de Novembro de 2026", "1.234,5"),
        ("es", "24 de noviembre de 2026", "1\xa0234,5"),
    ],
)
def test_dates_and_numbers_are_written_as_the_language_does(code, day, number):
    with translation.override(code):
        assert date_format(dt.datetime(2026, 11, 24, 18, tzinfo=dt.UTC), "DATE_FORMAT") == day
        assert number_format(1234.5, 1, use_l10n=True, force_grouping=True) == number


@pytest.mark.parametrize("code", LANGUAGES)
def test_no_language_writes_a_date_with_the_month_first_in_figures(code):
    with translation.override(code):
        said = date_format(dt.datetime(2026, 11, 24, 18, tzinfo=dt.UTC), "SHORT_DATETIME_FORMAT")

    assert not re.match(r"11/24", said)
    assert not re.search(r"[ap]\.?m", said)
