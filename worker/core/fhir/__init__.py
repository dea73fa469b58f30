"""FHIR R4 resources of the outcomes of a study, as plain dicts."""
