"""`python -m edgetool` is `edgetool`."""

from edgetool.cli.main import main

main()
