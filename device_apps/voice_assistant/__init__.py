"""The voice assistant: microphone to action, on a device, with nothing leaving it."""
