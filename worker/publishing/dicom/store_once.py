"""Store an object in the PACS exactly once: ask before and after, and never send again what may have arrived."""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from worker.core.dicomweb.client import INSTANCE_UID, SERIES_UID, read_text
from worker.core.errors import ObjectRefusedError, StorageError
from worker.core.uris import InstancePath

if TYPE_CHECKING:
    from worker.core.dicomweb.client import DicomwebClient

log = structlog.get_logger(__name__)


def find_stored(client: DicomwebClient, study_uid: str, uid: str, *, everywhere: bool = False) -> InstancePath | None:
    """Return where an object is stored in the study; None if it is not. Raises StorageError.

    everywhere: search the whole PACS, as for a study that was moved; the result still names `study_uid`.
    """
    study = None if everywhere else study_uid
    for found in client.search("instances", [("SOPInstanceUID", uid)], fields=[SERIES_UID], study=study):
        series_uid = read_text(found, SERIES_UID)
        # A server may ignore the query.
        if read_text(found, INSTANCE_UID) == uid and series_uid is not None:
            return InstancePath(study_uid, series_uid, uid)
    return None


def store_once(client: DicomwebClient, file: bytes, study_uid: str, uid: str, *, everywhere: bool = False) -> bool:
    """Store a file unless the PACS has its object; return whether it was sent.

    Whatever the PACS answers, or if it does not, the object counts as stored once a search finds it. Raises
    ObjectRefusedError if the PACS refuses it, StorageError if it fails.
    """
    if find_stored(client, study_uid, uid, everywhere=everywhere) is not None:
        return False
    try:
        result = client.store([file], study=study_uid)
    except StorageError as error:
        # The answer may be lost and the object stored.
        if find_stored(client, study_uid, uid, everywhere=everywhere) is None:
            raise
        log.info("store_answer_lost", uid=uid, code=error.code, detail=error.detail)
        return True
    if find_stored(client, study_uid, uid, everywhere=everywhere) is None:
        reason = result.failed.get(uid)
        raise ObjectRefusedError(
            f"the PACS does not store {uid}: HTTP {result.status}"
            + ("" if reason is None else f", failure reason {reason:04X}H")
        )
    return True
