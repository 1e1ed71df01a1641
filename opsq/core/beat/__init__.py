"""The process that sends calls when they are due: one leader among any number of beats."""
