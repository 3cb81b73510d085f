"""Alert rules and Grafana dashboards as code; the charts, the operator and the pages are made from them."""
