"""Writes what is deployed and not typed: the chart's schema, Grafana's dashboards, Prometheus' rules and their tests.

``python -m deploy.generate`` writes them; ``make docs`` does it too. A test compares what is committed with what this
writes, so that no panel names a series that does not exist and no value of the chart a setting that does not exist.
"""
