"""What several services need, once. It is a library and no service: it imports none of them and speaks no SMTP."""
