"""Model updates: one file on a stick, verified, tried on this computer, switched to, taken back.

``archive`` reads the file, ``verify`` judges whose it is, ``install`` puts it in place; none of
them knows Django. ``clinic`` does it for this clinic, with its settings and its record.
"""
