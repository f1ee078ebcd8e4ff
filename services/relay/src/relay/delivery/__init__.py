"""Takes what is due from the spool and hands it to a provider.

``dispatcher`` claims, ``lane`` keeps a provider's connections busy, ``transaction`` carries one message over one of
them, ``outcome`` says what the provider's answers mean, ``settlement`` turns that into what the spool records,
``notice`` tells the sender of a failure.
"""
