"""One folder, one security domain; its card is ``DOMAIN``. Nothing here knows their names."""
