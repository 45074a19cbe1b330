import threading

import numpy as np
import pytest
import threadpoolctl

from lorajax.mapping.tensor_loop import one_blas_thread, over_tensors


def blas_threads():
    libraries = threadpoolctl.threadpool_info()
    return {lib['num_threads'] for lib in libraries if lib['user_api'] == 'blas'}


def test_values_come_in_order_and_every_thread_has_one_of_blas():
    before = blas_threads()
    seen = list(over_tensors(lambda i: (i * i, blas_threads()), range(20)))
    assert [value for value, _ in seen] == [i * i for i in range(20)]
    assert all(threads == {1} for _, threads in seen)
    assert blas_threads() == before


def test_results_do_not_depend_on_the_threads():
    matrices = list(np.random.default_rng(0).normal(size=(30, 20, 10)).astype('f'))
    with one_blas_thread():
        alone = [np.linalg.qr(matrix)[1] for matrix in matrices]
    for one, other in zip(alone, over_tensors(lambda m: np.linalg.qr(m)[1], matrices), strict=True):
        np.testing.assert_array_equal(one, other)


def test_errors_of_one_tensor_end_the_loop_and_no_thread_is_left():
    before = threading.active_count()
    with pytest.raises(ZeroDivisionError):
        list(over_tensors(lambda i: 1 // i, [1, 2, 0, 3]))
    assert threading.active_count() == before
