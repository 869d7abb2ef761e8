"""Runtimes explain themselves at length; errors of this project are one line."""


def one_line(error: Exception, limit: int = 300) -> str:
    """A runtime's message without its line breaks, cut to `limit` characters."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= limit else text[: limit - 1] + "…"
