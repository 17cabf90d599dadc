"""What else is known of an alert: names of containers and pods, countries, seen host names.

All of it is looked up in files and memory of this host; nothing here asks a network.
"""

from ebpfsentinel.enrichment.enricher import Enricher
from ebpfsentinel.enrichment.names import SeenNames

__all__ = ["Enricher", "SeenNames"]
