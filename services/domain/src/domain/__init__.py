"""What the domain publishes: DNS, Email Routing and a provider's domain authentication, planned, applied and checked.

``settings``, ``aliases`` and ``pasted`` say what should be; ``spf``, ``dmarc``, ``wants``, ``diff``, ``routing`` and
``plan`` are pure and turn that and what was seen into steps; ``cloudflare`` and ``authentication`` talk to the
services; ``apply`` carries steps out and looks again; ``checks`` looks from outside.
"""
