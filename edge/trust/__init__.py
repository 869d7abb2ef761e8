"""Whether a file comes from whom a device trusts: signatures of bundles, and updates by TUF.

`envelope` is the standard library alone. The rest needs the extra `trust`, and nothing else of `edge` does.
"""
