"""The small window of a program that was double-clicked: it says where it runs, and ends it.

Drawn with tkinter, which is imported here and not before pages are served (docs/adr/0008). Tk wants
the main thread to itself.
"""

from __future__ import annotations

import contextlib
import ctypes
import logging
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from app import checks, diagnostics, outside

if TYPE_CHECKING:
    import tkinter as tk
    from tkinter import ttk
    from tkinter.font import Font

logger = logging.getLogger(__name__)

# As in clinic.css
INK, MUTED, PAPER, CARD, LINE = "#15222b", "#53636e", "#f3f5f6", "#ffffff", "#dbe2e6"
ACCENT, ACCENT_DARK, ACCENT_SOFT, FAULT = "#0d5c78", "#0a4358", "#e5f1f5", "#a52a12"
LINE_LENGTH, CORNER = 430, 32  # pixels, at 96 to the inch
BUTTONS_APART = (6, 12)
#: Tk sleeps until something happens in the window; signals and threads are looked after so often.
LOOK_AROUND_MS = 250
ICON = settings.CODE_DIR / "static" / "clinic" / "icon.png"


class Wish(Enum):
    """How a window ended: what the person wants."""

    QUIT = "quit"
    TRY_AGAIN = "try again"


@dataclass(frozen=True)
class Words:
    """What a window says, and where its button leads."""

    headline: str
    text: str
    address: str | None
    is_fault: bool = False
    notes: tuple[str, ...] = ()


def running(address: str) -> Words:
    """The words of a program that runs."""
    return Words(
        _("The program is running"),
        _("It shows its pages in the browser, at this address:"),
        address,
        notes=tuple(checks.notes()),
    )


def stopped(sentence: str, address: str | None) -> Words:
    """The words of a program that could not start."""
    return Words(_("The program could not start"), sentence, address, is_fault=True)


def locked(address: str) -> Words:
    """The words of a program that waits for its passphrase."""
    return Words(
        _("The program asks for its passphrase"),
        _("Enter it in the browser, at this address:"),
        address,
    )


def open_window(words: Words, unfinished: Callable[[], int] = lambda: 0) -> Window | None:
    """The window; None where there is no screen to show it on, or no tkinter."""
    on_x11 = sys.platform not in ("win32", "darwin")
    if on_x11 and not os.environ.get("DISPLAY"):
        return None
    try:
        import tkinter
    except ImportError:
        logger.info("no window: this Python has no tkinter")
        return None
    _ask_for_sharp_letters()
    try:
        return Window(tkinter.Tk(className="Clinic"), words, unfinished)
    except tkinter.TclError:
        logger.info("no window: there is no screen")
        return None


class Window:
    """One window from its opening to its end. ``unfinished`` counts the films without an answer."""

    def __init__(self, root: tk.Tk, words: Words, unfinished: Callable[[], int]) -> None:
        self.root, self._words, self._unfinished = root, words, unfinished
        self.wish = Wish.QUIT
        self._gone: Callable[[], bool] = lambda: False
        self._ended = False
        root.withdraw()
        root.title(_("Chest films"))
        root.configure(background=PAPER)
        root.resizable(False, False)
        self._fonts = _dress(root)  # Tk forgets a font that Python has let go of
        self._draw()
        root.protocol("WM_DELETE_WINDOW", self.ask_to_quit)
        root.report_callback_exception = self._own_up
        # What Windows sends at log-off and shutdown; there is no time for a question
        root.protocol("WM_SAVE_YOURSELF", self.quit)
        _place_out_of_the_way(root)
        root.deiconify()
        self._first.focus_set()

    def run(self, gone: Callable[[], bool], at_end: Callable[[], None]) -> Wish:
        """Show it until somebody ends it, ``end`` was called or ``gone()`` says so.

        ``at_end`` tidies up where there is no coming back: Xlib ends a process whose screen went.
        """
        self._gone = gone
        on_x11 = self.root.tk.call("tk", "windowingsystem") == "x11"
        with _when_the_screen_goes(at_end) if on_x11 else contextlib.nullcontext():
            try:
                self.root.after(LOOK_AROUND_MS, self._look_around)
                self.root.mainloop()
            finally:
                self.root.destroy()
        return self.wish

    def ask_to_quit(self) -> None:
        """Quit; where films wait for their answer, ask first."""
        count = self._unfinished()
        if not count:
            self.quit()
            return
        self.said.set(
            ngettext(
                "%(count)d film still waits for its answer. It gets it after the next start.",
                "%(count)d films still wait for their answer. They get it after the next start.",
                count,
            )
            % {"count": count}
        )
        self._show_only(self.question)

    def quit(self) -> None:
        """End, whatever is going on."""
        self.wish = Wish.QUIT
        self.root.quit()

    def try_again(self) -> None:
        """End, and start anew."""
        self.wish = Wish.TRY_AGAIN
        self.root.quit()

    def keep_running(self) -> None:
        """Do not quit after all."""
        self.said.set("")
        self._show_only(self.buttons)

    def open(self) -> None:
        """The pages, in the browser."""
        if self._words.address:
            outside.open_page(self._words.address)

    def open_data_folder(self) -> None:
        """The folder of films and answers, in the file manager."""
        if not outside.open_folder(settings.DATA_DIR):
            self.said.set(_("The folder is %(folder)s.") % {"folder": settings.DATA_DIR})

    def copy_diagnostics(self) -> None:
        """One file to send to whoever helps, put where it is easily found."""
        fault = self._words.text if self._words.is_fault else ""
        file = diagnostics.archive(fault=fault)
        for folder in _easily_found():
            with contextlib.suppress(OSError):
                target = folder / diagnostics.file_name()
                target.write_bytes(file)
                self.said.set(
                    _("Written: %(file)s. Send it to whoever helps you; it names no patient.")
                    % {"file": target}
                )
                outside.open_folder(folder)
                return
        self.said.set(_("The file could not be written: the disk is full or write-protected."))

    def end(self, *_signal: object) -> None:
        """End soon, from whatever is being done at the moment: a handler for signals.

        One that raised would be lost in the middle of Tk's own work.
        """
        self._ended = True

    def _own_up(self, _kind: object, error: BaseException, _trace: object) -> None:
        """A button that fails must not do so silently."""
        logger.error("the window failed", exc_info=error)
        self.said.set(_("Something went wrong in the program. Its log says more."))

    def _look_around(self) -> None:
        # Running Python now and then is also what lets it notice a signal
        if self._ended or self._gone():
            self.quit()
            return
        self.root.after(LOOK_AROUND_MS, self._look_around)

    def _draw(self) -> None:
        import tkinter as tk
        from tkinter import ttk

        self.said = tk.StringVar(self.root)
        card = ttk.Frame(self.root, style="Card.TFrame", padding=(24, 20, 24, 18))
        card.pack(fill="both", expand=True, padx=14, pady=14)
        self._draw_words(card)
        self.buttons = ttk.Frame(card, style="Card.TFrame")
        self._draw_buttons(self.buttons)
        self.question = ttk.Frame(card, style="Card.TFrame")
        self._add(self.question, _("Quit now"), self.quit, main=True)
        self._add(self.question, _("Keep running"), self.keep_running)
        self._line(card, "Said.TLabel", textvariable=self.said).pack(anchor="w", pady=(8, 0))
        self.buttons.pack(fill="x", pady=BUTTONS_APART)
        for note in self._words.notes:
            self._line(card, "Quiet.TLabel", text=note).pack(anchor="w", pady=(0, 8))
        closing = _("Closing this window ends the program.")
        self._line(card, "Quiet.TLabel", text=closing).pack(anchor="w")

    def _draw_words(self, card: ttk.Frame) -> None:
        from tkinter import ttk

        head = ttk.Frame(card, style="Card.TFrame")
        dot = "Fault.TLabel" if self._words.is_fault else "Good.TLabel"
        ttk.Label(head, text="●", style=dot).pack(side="left", padx=(0, 8))
        ttk.Label(head, text=self._words.headline, style="Headline.TLabel").pack(side="left")
        head.pack(anchor="w")
        self._line(card, "TLabel", text=self._words.text).pack(anchor="w", pady=(8, 0))
        if self._words.address and not self._words.is_fault:
            address = self._line(card, "Link.TLabel", text=self._words.address)
            address.configure(cursor="hand2")
            address.bind("<Button-1>", lambda _event: self.open())
            address.pack(anchor="w", pady=(2, 0))

    def _draw_buttons(self, frame: ttk.Frame) -> None:
        if self._words.is_fault:
            self._add(frame, _("Try again"), self.try_again, main=True)
        if self._words.address:
            self._add(frame, _("Open"), self.open, main=not self._words.is_fault)
        self._add(frame, _("Open data folder"), self.open_data_folder)
        self._add(frame, _("Copy diagnostics"), self.copy_diagnostics)
        self._add(frame, _("Quit"), self.ask_to_quit)

    def _add(
        self, frame: ttk.Frame, text: str, command: Callable[[], None], main: bool = False
    ) -> None:
        from tkinter import ttk

        style = "Main.TButton" if main else "TButton"
        button = ttk.Button(frame, text=text, command=command, style=style)
        button.bind("<Return>", lambda _event: command())
        button.pack(side="left", padx=(0, 8))
        if main and frame is self.buttons:
            self._first = button

    def _line(self, card: ttk.Frame, style: str, **options: Any) -> ttk.Label:
        from tkinter import ttk

        scale = self.root.winfo_fpixels("1i") / 96
        return ttk.Label(card, style=style, wraplength=round(LINE_LENGTH * scale), **options)

    def _show_only(self, row: ttk.Frame) -> None:
        other = self.question if row is self.buttons else self.buttons
        if other.winfo_manager():
            row.pack(fill="x", pady=BUTTONS_APART, before=other)
            other.pack_forget()


def _dress(root: tk.Tk) -> list[Font]:
    """The look of the pages, in the one ttk theme that takes any colour on every system.

    Returns the fonts, which somebody has to hold.
    """
    import tkinter as tk
    from tkinter import font, ttk

    with contextlib.suppress(tk.TclError):  # a window without its picture is a window
        root.iconphoto(True, tk.PhotoImage(master=root, file=str(ICON)))
    plain = font.nametofont("TkDefaultFont", root)
    plain.configure(size=10)
    large, small = plain.copy(), plain.copy()
    large.configure(size=14, weight="bold")
    small.configure(size=9)
    style = ttk.Style(root)
    style.theme_use("clam")
    style.configure(".", background=CARD, foreground=INK, font=plain)
    style.configure("Card.TFrame", background=CARD)
    style.configure("Headline.TLabel", font=large)
    style.configure("Good.TLabel", foreground="#2c8a57", font=large)
    style.configure("Fault.TLabel", foreground=FAULT, font=large)
    style.configure("Quiet.TLabel", foreground=MUTED, font=small)
    style.configure("Said.TLabel", foreground=ACCENT_DARK)
    style.configure("Link.TLabel", foreground=ACCENT)
    edges = {"bordercolor": LINE, "lightcolor": CARD, "darkcolor": CARD}
    style.configure(
        "TButton", background=CARD, foreground=ACCENT_DARK, padding=(10, 6), width=0, **edges
    )
    style.map("TButton", background=[("active", ACCENT_SOFT)], bordercolor=[("focus", ACCENT)])
    main_edges = {"bordercolor": ACCENT, "lightcolor": ACCENT, "darkcolor": ACCENT}
    style.configure("Main.TButton", background=ACCENT, foreground=CARD, **main_edges)
    style.map("Main.TButton", background=[("active", ACCENT_DARK)], foreground=[("active", CARD)])
    return [plain, large, small]


def _place_out_of_the_way(root: tk.Tk) -> None:
    """In the corner, above the task bar: the middle of the screen is the page's."""
    root.update_idletasks()
    across = root.winfo_screenwidth() - root.winfo_reqwidth() - CORNER
    down = root.winfo_screenheight() - root.winfo_reqheight() - 3 * CORNER
    root.geometry(f"+{max(across, 0)}+{max(down, 0)}")


def _easily_found() -> list[Path]:
    home = Path.home()
    folders = [home / "Desktop", home / "Downloads", home, settings.DATA_DIR]
    return [folder for folder in folders if folder.is_dir()]


def _ask_for_sharp_letters() -> None:
    """Without this Windows draws the window small and blows it up, on a screen of many pixels."""
    if sys.platform == "win32":
        with contextlib.suppress(AttributeError, OSError):
            ctypes.windll.shcore.SetProcessDpiAwareness(1)


@contextlib.contextmanager
def _when_the_screen_goes(at_end: Callable[[], None]) -> Iterator[None]:
    """Have ``at_end`` called when the X server leaves, as at log-off: Xlib then ends the process.

    XSetIOErrorHandler(3): what is called must not return.
    """

    def handler(_display: object) -> int:
        logger.info("the screen is gone")
        with contextlib.suppress(Exception):
            at_end()
        os._exit(0)

    called = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p)(handler)
    try:
        tell = ctypes.CDLL("libX11.so.6").XSetIOErrorHandler
    except (OSError, AttributeError):
        yield
        return
    tell(called)
    try:
        yield
    finally:
        tell(None)
