"""The exception for a cluster that fails."""


class ClusterError(ConnectionError):
    """A cluster cannot be reached or fails; the message is one line (exit code 3)."""
