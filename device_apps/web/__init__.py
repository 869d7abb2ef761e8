"""What the pages of device apps share: a password, a server in a thread, a look."""
