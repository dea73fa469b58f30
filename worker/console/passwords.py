"""Hash passwords with Argon2id and verify them in the same time whether or not the user exists."""

from functools import cache
from threading import BoundedSemaphore

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from worker.core.errors import UsageError

MIN_CHARS = 12
MAX_CHARS = 256
"""Limits the work of hashing."""

_HASHER = PasswordHasher()
# One hash takes 64 MiB and four threads: limit how many unauthenticated requests can start at once.
_CONCURRENT_HASHES = BoundedSemaphore(2)


def hash_password(name: str, password: str) -> str:
    """Return the hash to store. Raises UsageError if the password is too short, too long or based on the name."""
    if not MIN_CHARS <= len(password) <= MAX_CHARS:
        raise UsageError(f"password has {len(password)} characters; it must have {MIN_CHARS} to {MAX_CHARS}")
    if name.casefold() in password.casefold() and len(password) < len(name) + MIN_CHARS:
        raise UsageError(f"password contains the user name; add at least {MIN_CHARS} characters to it")
    with _CONCURRENT_HASHES:
        return _HASHER.hash(password)


def verify_password(password: str, password_hash: str | None) -> bool:
    """Whether the password matches the hash. None takes as long as a hash and returns False."""
    with _CONCURRENT_HASHES:
        try:
            return _HASHER.verify(password_hash or _dummy_hash(), password[:MAX_CHARS]) and password_hash is not None
        except (VerificationError, InvalidHashError):
            return False


@cache
def _dummy_hash() -> str:
    return _HASHER.hash("nobody has this password")
