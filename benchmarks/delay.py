"""The wire made longer, as a process: `python benchmarks/delay.py URL SECONDS`.

Prints the address at which the server of URL is found SECONDS away; ends when its input does.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from relay import Relay


def main() -> None:
    """Stand between until nobody needs it any more."""
    with Relay(sys.argv[1], float(sys.argv[2])) as relay:
        print(relay.url, flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
