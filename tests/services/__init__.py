"""Real servers from wheels for the tests, as root and as an ordinary user."""
