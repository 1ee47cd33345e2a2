"""Labs 00 to 02 whole in a browser. The labs lie in several files, which a test run hands to
several processes.
"""

import pytest
from whole_labs import run_whole_lab

pytestmark = [pytest.mark.browser, pytest.mark.slow]


@pytest.mark.parametrize(
    "name", ["00_why_peft", "01_quantization_buckets", "02_double_quantization"]
)
def test_runs_in_jupyterlab_from_top_to_bottom(name, jupyterlab, browser, tmp_path):
    run_whole_lab(name, jupyterlab, browser, tmp_path)
