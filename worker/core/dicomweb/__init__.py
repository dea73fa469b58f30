"""DICOMweb client of a PACS: search (QIDO-RS), retrieve and metadata (WADO-RS), and store (STOW-RS)."""
