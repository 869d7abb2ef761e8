"""From a bundle to a device that runs it: over SSH, without an agent, and back again."""
