"""Check the store of overlays by a real put, get and delete."""

from uuid import uuid4

from producer.doctor.check import Check, Verdict, masked
from worker.core.errors import StorageError
from worker.core.settings import Settings
from worker.core.storage.storage import Storage

CONTENT = b"written by fundus doctor"


def check_storage(settings: Settings) -> list[Check]:
    """One check of all three; the object's key is random and nothing of it stays."""
    key = f"doctor/{uuid4().hex}.txt"
    address = masked(settings.storage_url)
    try:
        store = Storage(settings).overlays
        store.put(key, CONTENT, content_type="text/plain", metadata={})
        read = store.get(key)
        store.delete(key)
    except (StorageError, KeyError) as error:
        detail = error.detail if isinstance(error, StorageError) else f"{address} does not have what was just put there"
        remedy = "see to the address, the credentials and the rights: FUNDUS_STORAGE_URL, FUNDUS_S3_ENDPOINT_URL"
        return [Check("storage", Verdict.FAILED, masked(detail), remedy)]
    if read != CONTENT:
        detail = f"{address} gave back {len(read)} other bytes than the {len(CONTENT)} that were put"
        return [Check("storage", Verdict.FAILED, detail, "look for a proxy or cache before the store")]
    return [Check("storage", Verdict.OK, f"{address}: put, got and deleted {len(CONTENT)} bytes")]
