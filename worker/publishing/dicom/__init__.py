"""DICOM objects about a photograph, in its study: a structured report and the overlay; see docs/publishing.md.

Patient and study are copied from the photograph's header at the time of publishing. They are in memory for that time
alone: no name or number of a patient is in an error, a log or the ledger.
"""

from pydicom import config

# The library would repeat an invalid value of the header in a warning. Such a value is copied as the PACS has it.
config.settings.reading_validation_mode = config.IGNORE
config.settings.writing_validation_mode = config.IGNORE
