"""As in English here: day, month in letters, year, and the hour of 24."""

from app.formats.en.formats import *  # noqa: F403 - all of them, and none besides
