"""Chest film reader for clinics without a radiologist: the Django project and its one app."""

__version__ = "0.1.0"
#: The day of this version, which no right clock is before: raised together with ``__version__``.
__date__ = "2026-11-25"
