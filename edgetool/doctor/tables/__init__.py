"""One literal table a delegate: the operations that its public page lists."""
