"""The only way out of the cluster's API: calls to Prometheus, pods and issuers of keys, bounded, and to whom they may go."""
