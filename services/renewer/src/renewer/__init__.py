"""The renewer: makes, takes or obtains a certificate, verifies it, and publishes it under ``certs/`` in one step."""
