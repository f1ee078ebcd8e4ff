"""Looks at a mail domain from outside: public DNS, our own ports, the providers' ports, the clock. Changes nothing."""
