"""The errors of this package."""


class HgcError(Exception):
    """Something that cannot be done, in words that say what to do."""
