"""The release channel: a folder of bundles with signed TUF metadata, for any web server to serve."""
