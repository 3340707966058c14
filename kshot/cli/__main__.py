"""``python -m kshot.cli``, where the script ``kshot`` is not on the path."""

from kshot.cli.app import main

if __name__ == "__main__":
    main()
