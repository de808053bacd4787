import os
import subprocess
import sys

import pytest

from selfkd.cores import available_cores, limited_to


@pytest.mark.parametrize("limit", [1, available_cores(), available_cores() + 5])
def test_a_started_process_has_at_most_as_many_cores_as_it_was_given(limit):
    code = "from selfkd.cores import available_cores; print(available_cores())"
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **limited_to(limit)}, capture_output=True, check=True
    )
    assert int(done.stdout) == min(limit, available_cores())
