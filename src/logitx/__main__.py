"""Run `python -m logitx`."""

import sys

from logitx._evaluate import main

if __name__ == "__main__":
    sys.exit(main())
