"""DICOM objects about a photograph, in its study: a structured report and the overlay; see docs/dicom.md.

Patient and study are copied from the photograph's header at the time of publishing. They are in memory for that time
alone: no name or number of a patient is in an error, a log or the ledger.
"""
