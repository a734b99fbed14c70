"""A page for readers, its texts for programs, and the server of both."""
