"""Create and change runs: enqueue, nightly enqueue, resend and cancel."""
