"""The monitoring side: receive, fold, keep and read events; knows nothing of core."""
