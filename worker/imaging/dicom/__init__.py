"""Cut the photograph out of a DICOM file, for the decoder that reads image files too."""
