"""Places to run tasks, behind one small protocol."""
