"""DICOM without pixels: which facts of an instance may leave its header, and which instances are graded.

`instance_header.read_instance_header` reads the facts from DICOM JSON, as QIDO-RS and WADO-RS answer;
`file_header.read_file_header` reads the same from a DICOM file. `selection.check_instance_kind` refuses what is no
colour fundus photograph, and `instance_reference.make_instance_reference` makes the reference that a source yields.
"""
