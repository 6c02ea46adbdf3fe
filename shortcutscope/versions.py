"""Numbers of what is kept on disk: they decide what can be gone on with, the package's version does not.

Raise a number when the same inputs give other results, or the same bytes mean something else. A run of
another number is refused or measured anew, before anything is written.
"""

from __future__ import annotations

#: Of ``run.json`` and the files beside it.
RUN_FORMAT = 1
#: Of a scan's manifest and shards.
SCAN_FORMAT = 1

#: Of a folder of decoded images; also raised when an image is read to other pixels.
DECODED = 1

#: How layers are found and relevance is computed; what is pooled has `scan.pooling.POOLING_VERSION`.
SCANNING = 1
#: How the masks of a finding are drawn.
DRAWING = 3
#: How shortcuts are searched that nobody named.
SEARCHING = 4
#: Of ``subgroups.json``.
SUBGROUPS = 1
#: Stages of an audit whose measurements are kept by concept or layer; of those not named here, 1.
MEASURING = {"preprocessing": 2, "probe": 3, "usage": 3, "usage-last": 3, "rank": 3, "extent": 4}
#: Of ``embeddings.json``.
EMBEDDINGS_FORMAT = 1
#: Of the results of interventions on the pixels, ``pixels/<finding>.json``.
PIXELS_FORMAT = 1
