"""What a service is asked."""

QUESTION = "How do I rotate keys? Answer at length."
"""By default: its answer must take a while, so that there is a stream to be cut and resumed."""
