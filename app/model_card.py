"""The model card of a release as a page shows it.

The card is Markdown from a release, which may come from elsewhere: HTML in it is shown as text, and
links and pictures are not followed, so that a card can neither run nor fetch anything.
"""

from __future__ import annotations

from django.utils.safestring import SafeString, mark_safe
from markdown_it import MarkdownIt

from app.cxr.release import Release

CARD = "MODEL_CARD.md"
MOST_BYTES = 200_000


def card_of(release: Release | None) -> str | None:
    """The text of the card, None where the release has none that can be read."""
    if release is None:
        return None
    try:
        with (release.directory / CARD).open(encoding="utf-8") as file:
            return file.read(MOST_BYTES)
    except (OSError, UnicodeDecodeError):
        return None


def as_html(card: str) -> SafeString:
    """The card as HTML whose headings begin at the second level: the page has the first."""
    markdown = MarkdownIt("commonmark", {"html": False}).enable("table")
    markdown.disable(["link", "autolink", "image", "reference", "html_block", "html_inline"])
    tokens = markdown.parse(card)
    for token in tokens:
        if token.type in ("heading_open", "heading_close"):
            token.tag = f"h{min(int(token.tag[1]) + 1, 6)}"
        if token.type == "table_open":
            token.attrSet("tabindex", "0")  # wider than a phone: scrolled by keyboard too
        token.attrs.pop("style", None)  # the alignment of columns is the sheet's affair
    # HTML in the card is switched off above; the card is part of a signed release
    return mark_safe(markdown.renderer.render(tokens, markdown.options, {}))  # nosec B308 B703
