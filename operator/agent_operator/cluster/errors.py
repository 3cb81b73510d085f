"""What can go wrong between us and the API server. No other module sees the errors of a client library."""


class ClusterError(Exception):
    """The API server did not do what was asked; the message is for a condition or a log line."""


class Conflict(ClusterError):
    """Somebody else wrote the object in between, owns the field, or made it first."""


class Forbidden(ClusterError):
    """401 or 403: asking again soon does not help; the message names what the service account may not do."""


class Invalid(ClusterError):
    """400 or 422: the object is refused as it stands; the message names the field."""


class InvalidName(Invalid):
    """Nothing was asked: a name, a label or a port is none that the API has, and would have led somewhere else."""


class WrongAnswer(ClusterError):
    """The API server answered with another object than the one that was asked for. It is not used."""


class TooLarge(ClusterError):
    """More than is read into memory: an answer of too many bytes or values, or all pages of a list together. It is not used."""


class Unavailable(ClusterError):
    """No connection, a time-out, 429 or 5xx. The change may have been made all the same."""
