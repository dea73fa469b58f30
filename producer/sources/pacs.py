"""List the photographs of a PACS that a query selects."""

from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import replace
from datetime import date

from producer.sources.pacs_query import PacsQuery, StudyDates, parse_pacs_query
from worker.core.dicom.instance_header import HEADER_TAGS, PATIENT_TAGS, STUDY, STUDY_DATE, read_instance_header
from worker.core.dicom.instance_reference import make_instance_reference
from worker.core.dicom.selection import check_instance_kind
from worker.core.dicomweb.client import Dataset, DicomwebClient, read_text
from worker.core.errors import ImageError, SourceError
from worker.core.manifests.image_reference import ImageReference, OnWarning
from worker.core.uris import UID_PATTERN, InstancePath, dicomweb_uri
from worker.core.vocabulary import DicomAdmission

OPHTHALMIC_PHOTOGRAPHY = "OP"
"""Modality of the SOP classes that are graded without FUNDUS_DICOM_ADMIT."""
_OTHER_MODALITIES = {DicomAdmission.VL_PHOTOGRAPHIC, DicomAdmission.SECONDARY_CAPTURE}


def make_pacs_query(location: str, *, studies_since: date | None, admitted: Collection[DicomAdmission]) -> PacsQuery:
    """Parse a source and add what it leaves out.

    studies_since: first study date of a source that names neither dates nor studies. admitted: unless other modalities
    may be graded, only studies with ophthalmic photographs are searched. Raises SourceError, also for a query that
    would read the whole archive.
    """
    query = parse_pacs_query(location)
    if query.dates is None and "StudyInstanceUID" not in query.values:
        if studies_since is None:
            raise SourceError(
                "the source names no StudyDate and would read the whole archive; fix: add"
                " StudyDate=20261101-20261130, or StudyDate=19000101- for all of it"
            )
        query = replace(query, dates=StudyDates(studies_since))
    names_modality = not query.values.keys().isdisjoint({"Modality", "ModalitiesInStudy", "SOPClassUID"})
    if not names_modality and _OTHER_MODALITIES.isdisjoint(admitted):
        query = replace(query, values={**query.values, "ModalitiesInStudy": (OPHTHALMIC_PHOTOGRAPHY,)})
    return query


def list_pacs_images(
    client: DicomwebClient, query: PacsQuery, *, admitted: Collection[DicomAdmission], on_warning: OnWarning
) -> Iterator[ImageReference]:
    """Yield references to the photographs that match, study by study, each once.

    Instances that are no colour fundus photographs by their headers are left out; their numbers by reason are passed to
    `on_warning` at the end. Patient ids are in the clear, see `make_instance_reference`. Raises StorageError.
    """
    seen = set[str]()
    ignored: Counter[str] = Counter()
    fields = list(dict.fromkeys([*HEADER_TAGS, *PATIENT_TAGS, *query.instance_tags]))
    # All studies first: a study that arrives between two pages would move others from one to the other.
    for study in _list_studies(client, query, ignored):
        for instance in client.search("instances", query.instance_parameters, study=study, fields=fields):
            # Some PACS leave out what the search already gave.
            path = {STUDY: {"vr": "UI", "Value": [study]}}
            reference = _select({**path, **instance}, query, admitted, ignored)
            if reference is None:
                continue
            if reference.identity in seen:
                ignored["found_twice"] += 1
                continue
            seen.add(reference.identity)
            yield reference
    if ignored:
        counts = ", ".join(f"{count} {reason}" for reason, count in sorted(ignored.items()))
        on_warning(f"no photographs to grade, ignored in the PACS: {counts}")


def _list_studies(client: DicomwebClient, query: PacsQuery, ignored: Counter[str]) -> list[str]:
    studies = []
    for study in client.search("studies", query.study_parameters, fields=[STUDY_DATE]):
        if query.matches_study(study):
            studies.append(str(read_text(study, STUDY)))
        else:
            ignored["outside_the_query"] += 1
    return studies


def _select(
    instance: Dataset, query: PacsQuery, admitted: Collection[DicomAdmission], ignored: Counter[str]
) -> ImageReference | None:
    """Return the reference of an instance; None if it is left out, and counted by reason."""
    if not query.matches_instance(instance):
        ignored["outside_the_query"] += 1
        return None
    try:
        header = read_instance_header(instance)
        check_instance_kind(header, admitted)
    except ImageError as error:
        ignored[error.code] += 1
        return None
    path = [header.study_uid, header.series_uid, header.sop_instance_uid]
    if not all(uid is not None and UID_PATTERN.fullmatch(uid) for uid in path):
        ignored["without_uids"] += 1
        return None
    uri = dicomweb_uri(InstancePath(*(str(uid) for uid in path)))
    return make_instance_reference(uri, header, instance)
