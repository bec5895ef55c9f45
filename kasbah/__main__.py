"""`python -m kasbah` is the `kasbah` command."""

from kasbah.cli.main import main

if __name__ == "__main__":
    main()
