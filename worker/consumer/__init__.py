"""How Celery takes messages: validation, the live queue, no delayed delivery."""
