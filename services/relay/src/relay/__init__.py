"""The relay: accepts mail from people who log in, keeps it safe on disk, and hands it to a mail provider."""

__version__ = "0.1.0"
