"""Draws the dashboards without Grafana: made-up traffic, a real Prometheus, every panel's query, one page each.

Grafana cannot be had here: it is no Python package, and the checks may not ask a machine to have it. So the few kinds of panels
our dashboards use are drawn by hand: enough to see that each has data, a unit and a legend. Grafana itself would look otherwise.
"""
