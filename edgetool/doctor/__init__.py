"""What a device will make of a model, told before it is deployed."""
