"""Other toolkits on the same models and data: what they write is judged by the code that judges ours."""
