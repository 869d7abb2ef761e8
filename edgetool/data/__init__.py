"""The forms of DATA: folders, .npz, .csv, task.py and built-in tasks."""
