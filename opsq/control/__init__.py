"""Remote control: the table of commands and its client."""
