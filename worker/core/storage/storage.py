"""Object store, PACS and source reader of the settings, each with one client."""

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from worker.core.dicomweb.client import DicomwebClient
from worker.core.dicomweb.connect import make_dicomweb_client
from worker.core.settings import Settings
from worker.core.storage.folder_store import FolderStore
from worker.core.storage.object_store import ObjectStore
from worker.core.storage.s3_store import REQUEST_ATTEMPTS, S3Store, make_s3_client
from worker.core.storage.source_reader import SourceReader

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client


class Storage:
    """Storage of the settings. The clients are made on first use and shared by all threads."""

    def __init__(self, settings: Settings, *, connections: int = 10, request_attempts: int = REQUEST_ATTEMPTS) -> None:
        """connections: size of the S3 client's pool. request_attempts: see `make_s3_client`."""
        self._settings = settings
        self._connections = connections
        self._request_attempts = request_attempts

    @cached_property
    def client(self) -> "S3Client":
        """The shared S3 client."""
        return make_s3_client(self._settings, connections=self._connections, request_attempts=self._request_attempts)

    @cached_property
    def pacs(self) -> DicomwebClient:
        """The client of the PACS of FUNDUS_DICOMWEB_URL. Raises SettingsError without a usable one."""
        # Who waits between requests elsewhere wants no waiting here.
        patience_s = 0.0 if self._request_attempts == 1 else self._settings.service_retry_timeout_s
        return make_dicomweb_client(self._settings, search_patience_s=patience_s)

    @cached_property
    def overlays(self) -> ObjectStore:
        """The store of FUNDUS_STORAGE_URL, which holds overlays and reports."""
        parts = urlsplit(self._settings.storage_url)
        if parts.scheme == "file":
            return FolderStore(Path(unquote(parts.path)))
        timeout_s = self._settings.transfer_timeout_s
        return S3Store(self.client, parts.netloc, parts.path, transfer_timeout_s=timeout_s)

    @cached_property
    def sources(self) -> SourceReader:
        """The reader of source images, within FUNDUS_SOURCE_ROOTS."""
        roots, timeout_s = self._settings.allowed_roots, self._settings.transfer_timeout_s
        return SourceReader(lambda: self.client, lambda: self.pacs, roots, transfer_timeout_s=timeout_s)
