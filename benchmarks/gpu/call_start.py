"""When the process of a call began: to be imported before anything that takes long."""

import time

CALL_START = time.monotonic()
