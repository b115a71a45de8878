"""`python -m playhead_cli` is `playhead`."""

from playhead_cli.main import main

if __name__ == "__main__":
    main()
