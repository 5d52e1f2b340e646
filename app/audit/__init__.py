"""The record of who did what, chained so that a change shows: ADR 0030, docs/audit.md.

``chain`` and ``seal`` make it, ``check`` looks whether it is whole, ``export`` takes it out.
"""
