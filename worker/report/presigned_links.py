"""Link to a report in a private bucket: a copy of its page with a presigned URL for each file."""

import json
import re

from worker.core.errors import RunError
from worker.report.destination import Destination

INDEX = "index.html"
LINKED = "linked.html"
"""Copy of the page with presigned URLs; each new link overwrites it."""
_ADDRESSES = re.compile(rb'(<script type="application/json" id="addresses">)\{\}(</script>)')


def link_report(destination: Destination, *, seconds: int) -> str:
    """Return a presigned URL of the report, valid for `seconds`. Raises RunError if there is no report."""
    files = destination.list_files()
    if INDEX not in files:
        raise RunError(f"no report at {destination.uri(INDEX)}; write it with `fundus report RUN`")
    store, prefix = destination.store, destination.prefix
    addresses = {name: store.download_url(prefix + name, expires_s=seconds) for name in sorted(files)}
    # Only `<` could end the script element.
    text = json.dumps(addresses).replace("<", "\\u003c").encode()
    page = store.get(prefix + INDEX)
    destination.write(LINKED, _ADDRESSES.sub(lambda found: found[1] + text + found[2], page))
    return store.download_url(prefix + LINKED, expires_s=seconds)
