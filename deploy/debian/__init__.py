"""The Debian package: what is in it, and how it is built."""
