"""What opsq is deployed with: the chart, images, units, dashboards and alert rules."""
