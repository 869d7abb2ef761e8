"""`edgetool`, and `python -m edgetool`: says what is missing where only the device side is installed."""

import importlib.util
import sys


def main() -> None:
    """Run the command line, if the packages of the host are there."""
    if importlib.util.find_spec("typer") is None:
        sys.stderr.write("error: the packages of the host side are not installed\n")
        sys.stderr.write("hint: pip install 'edgetool[host]'; on a device use python -m edge\n")
        sys.exit(3)
    from edgetool.cli.main import main as run

    run()


if __name__ == "__main__":
    main()
