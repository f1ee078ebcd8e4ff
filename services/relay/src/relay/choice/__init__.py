"""Which provider takes a message: values and pure functions, asked inside the spool's claim (``docs/spool.md``)."""
