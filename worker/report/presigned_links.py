"""A link to a report in a closed bucket: each of its files by an address that is signed for a while."""

import json
import re

from worker.core.errors import RunError
from worker.report.destination import Destination

INDEX = "index.html"
LINKED = "linked.html"
"""The page once more, with the signed addresses in it; written anew by each link."""
_ADDRESSES = re.compile(rb'(<script type="application/json" id="addresses">)\{\}(</script>)')


def link_report(destination: Destination, *, seconds: int) -> str:
    """An address of the report for a browser without credentials. Raises RunError when there is no report."""
    files = destination.list_files()
    if INDEX not in files:
        raise RunError(f"no report at {destination.uri(INDEX)}: `fundus report RUN` writes it")
    store, prefix = destination.store, destination.prefix
    addresses = {name: store.download_url(prefix + name, expires_s=seconds) for name in sorted(files)}
    # An ampersand needs no escape in a script element, and JSON has no `<` of its own.
    text = json.dumps(addresses).replace("<", "\\u003c").encode()
    page = store.get(prefix + INDEX)
    destination.write(LINKED, _ADDRESSES.sub(lambda found: found[1] + text + found[2], page))
    return store.download_url(prefix + LINKED, expires_s=seconds)
