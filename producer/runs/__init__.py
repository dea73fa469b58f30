"""Create runs and change them: register, enqueue, resend, cancel and nights."""
