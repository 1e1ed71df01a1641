"""Tables of the app, step by step."""
