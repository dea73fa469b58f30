"""Real servers for tests, installed from wheels; they run as root or as an ordinary user."""
