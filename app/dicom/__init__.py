"""The program as a DICOM node: what it takes in, what it sends, and whom it speaks with.

Files are named by the standard's terms. ``node`` is what the rest of the program knows; it is off
until an administrator switches it on, and pynetdicom is not imported before. Why it is built so:
docs/adr/0026-dicom-node-by-pynetdicom.md.
"""
