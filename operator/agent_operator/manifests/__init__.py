"""What objects look like: pure functions from a spec to manifests and from facts to status."""
