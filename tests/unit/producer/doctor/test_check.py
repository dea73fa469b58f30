import pytest

from producer.doctor.check import mask_credentials


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("postgresql://grader:pa/s:s@w?rd@db:5432/fundus", "postgresql://grader:***@db:5432/fundus"),
        ("redis://:secret@host:6379/0", "redis://:***@host:6379/0"),
        ("redis://host:6379/0", "redis://host:6379/0"),
        ("postgresql://db/fundus?password=secret", "postgresql://db/fundus?***"),
        ("sqlite:////var/lib/fundus.db", "sqlite:////var/lib/fundus.db"),
        ("cannot reach amqp://u:secret@host, twice", "cannot reach amqp://u:***@host, twice"),
    ],
)
def test_no_password_is_shown(address: str, shown: str) -> None:
    assert mask_credentials(address) == shown
