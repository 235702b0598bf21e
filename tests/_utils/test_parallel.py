import os
import subprocess
import sys
import threading
import time

import pytest
import torch

from dissect._utils.parallel import parallel_map


@pytest.fixture
def three_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


def test_results_are_in_order_and_torch_has_one_thread_inside(three_threads):
    def work(item, stopped):
        time.sleep(0.02 * (item == 0))
        return item, torch.get_num_threads(), stopped.is_set()

    assert parallel_map(work, range(7)) == [(item, 1, False) for item in range(7)]
    assert torch.get_num_threads() == 3


def test_as_many_work_at_once_as_torch_has_threads(three_threads):
    # Each waits for two others: with fewer at once, none would go on.
    together = threading.Barrier(3, timeout=10)
    assert len(parallel_map(lambda item, stopped: together.wait(), range(6))) == 6


def test_a_failure_ends_the_others(three_threads):
    done = []

    def work(item, stopped):
        if item == 0:
            raise ValueError("of the first")
        stopped.wait(10)
        done.append(item)

    started = time.perf_counter()
    with pytest.raises(ValueError, match="of the first"):
        parallel_map(work, range(100))
    assert time.perf_counter() - started < 5
    # Those that had begun were told; the rest never began.
    assert len(done) < 10
    assert torch.get_num_threads() == 3


def test_nothing_to_do_is_nothing_done():
    assert parallel_map(lambda item, stopped: item, []) == []


def test_the_blas_of_scipy_which_is_loaded_late_has_one_thread_too():
    code = (
        "from threadpoolctl import threadpool_info as pools\n"
        "from dissect._utils.parallel import single_threaded_blas\n"
        "def threads(): return [p['num_threads'] for p in pools() if p['user_api'] == 'blas']\n"
        "with single_threaded_blas():\n"
        "    import sklearn.linear_model\n"
        "    inside = threads()\n"
        "assert inside and set(inside) == {1}, inside\n"
        "assert set(threads()) == {2}, threads()\n"
    )
    environment = {**os.environ, **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "2")}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)
