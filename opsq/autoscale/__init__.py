"""The autoscaler: a pure policy and the loops that apply it."""
