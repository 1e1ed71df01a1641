"""When something is to happen: crontab, interval, sun; the entries of a schedule, and where they are kept."""
