"""What the users of a GPU in one process must not do at the same time."""

from __future__ import annotations

import threading

# Held while a CUDA graph is recorded, and around the calls by which a video is decoded. A recording is lost where
# another thread waits for the whole context meanwhile, as the making of a decoder may do, in every mode of recording.
ONE_AT_A_TIME = threading.Lock()
