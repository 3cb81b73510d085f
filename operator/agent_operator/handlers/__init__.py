"""The only modules that know kopf, which is the watch engine and nothing else: an event becomes a key on our queue."""
