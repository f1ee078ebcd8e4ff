"""Services that the domain tool talks to, as processes of their own with a state that tests set, spoil and read."""
