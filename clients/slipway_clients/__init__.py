"""The only ways out of a process: Kubernetes API, Prometheus, any address by HTTP. The operator and the doctor share them."""
