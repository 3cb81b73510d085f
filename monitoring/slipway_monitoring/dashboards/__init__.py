"""The Grafana dashboards of Slipway as code; `make dashboards` writes the JSON that the charts carry."""
