"""Check the overlay store by putting, getting and deleting an object."""

from uuid import uuid4

from producer.doctor.check import Check, CheckStatus, mask_credentials
from worker.core.errors import StorageError
from worker.core.settings import Settings
from worker.core.storage.storage import Storage

CONTENT = b"written by fundus doctor"


def check_storage(settings: Settings) -> list[Check]:
    """Put, get and delete an object with a random key."""
    key = f"doctor/{uuid4().hex}.txt"
    address = mask_credentials(settings.storage_url)
    try:
        store = Storage(settings).overlays
        store.put(key, CONTENT, content_type="text/plain", metadata={})
        read = store.get(key)
        store.delete(key)
    except (StorageError, KeyError) as error:
        detail = error.detail if isinstance(error, StorageError) else f"{address} lacks the object that was just put"
        remedy = "check FUNDUS_STORAGE_URL, FUNDUS_S3_ENDPOINT_URL, the credentials and their permissions"
        return [Check("storage", CheckStatus.FAILED, mask_credentials(detail), remedy)]
    if read != CONTENT:
        detail = f"{address} returned {len(read)} other bytes than the {len(CONTENT)} bytes that were put"
        return [Check("storage", CheckStatus.FAILED, detail, "look for a proxy or cache in front of the store")]
    return [Check("storage", CheckStatus.OK, f"{address}: put, got and deleted {len(CONTENT)} bytes")]
