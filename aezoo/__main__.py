"""`python -m aezoo` is the command `aezoo`."""

from aezoo.cli import main

if __name__ == "__main__":
    main()
