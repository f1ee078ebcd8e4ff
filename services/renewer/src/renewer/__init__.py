"""The renewer: makes or takes a certificate, verifies it, and publishes it under ``certs/`` in one step."""
