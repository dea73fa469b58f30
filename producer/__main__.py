"""`python -m producer` is `fundus`."""

from producer.cli import main

if __name__ == "__main__":
    main()
