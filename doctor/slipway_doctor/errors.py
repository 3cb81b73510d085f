"""Why there is no report."""


class CouldNotRun(Exception):
    """Nothing could be examined; one line that names what and why."""
