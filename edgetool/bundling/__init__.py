"""What travels in a bundle beside the model: what it needs, its parts, where it comes from, whose licences hold."""
