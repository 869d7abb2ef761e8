"""The door-lock camera: sees a face, decides with reasons, and opens the door or leaves it locked."""
