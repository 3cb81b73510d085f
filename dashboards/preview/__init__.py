"""Draws the dashboards without Grafana: made-up traffic, a real Prometheus, every panel's query, one page each."""
