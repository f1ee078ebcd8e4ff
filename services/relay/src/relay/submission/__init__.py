"""Clients log in here and hand over their mail: the listeners, the dialogue, the rules."""
