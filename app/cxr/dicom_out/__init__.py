"""What is said of a film, as DICOM objects that lie beside it in its study.

``report`` makes a structured report, ``capture`` a picture with the regions drawn, both from the
values of ``said``. ``report`` imports highdicom: 0.2 s and 20 MB, and with the first report 0.6 s
and 70 MB for its tables of the standard. Import it where a report is made, not where the program
starts.
"""
