"""Hash passwords with Argon2id, and compare them without telling by the time whether there is such a user."""

from functools import cache
from threading import BoundedSemaphore

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from worker.core.errors import UsageError

MIN_CHARS = 12
MAX_CHARS = 256
"""A longer one would only keep the processor busy."""

_HASHER = PasswordHasher()
# Each takes 64 MiB and four threads: strangers must not be able to ask for any number at once.
_AT_ONCE = BoundedSemaphore(2)


def hash_password(name: str, password: str) -> str:
    """The hash to keep. Raises UsageError for a password that is too short, too long or the name."""
    if not MIN_CHARS <= len(password) <= MAX_CHARS:
        raise UsageError(f"a password has {MIN_CHARS} to {MAX_CHARS} characters, this one has {len(password)}")
    if name.casefold() in password.casefold() and len(password) < len(name) + MIN_CHARS:
        raise UsageError(f"a password must not be the name with less than {MIN_CHARS} characters added")
    with _AT_ONCE:
        return _HASHER.hash(password)


def is_password(password: str, kept: str | None) -> bool:
    """Whether it is the one that was hashed; for None as slow as for any, and false."""
    with _AT_ONCE:
        try:
            return _HASHER.verify(kept or _nobodys(), password[:MAX_CHARS]) and kept is not None
        except (VerificationError, InvalidHashError):
            return False


@cache
def _nobodys() -> str:
    return _HASHER.hash("nobody has this password")
