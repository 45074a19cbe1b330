import numpy as np
import pytest

from lorajax import mapping
from lorajax.errors import InputError
from lorajax.lora import pad_rank
from lorajax.mapping import bilinear_part
from lorajax.mapping.anchors import Anchors
from lorajax.mapping.options import Options
from lorajax.mapping.queries import Queries
from lorajax.mapping.subspace import orthonormal_bases, reduce_basis
from tests.mapping.worlds import dense, make_world, split


def test_fold_masks_leave_every_anchor_out_once():
    masks = bilinear_part.fold_masks(10, 4)
    assert masks.shape == (5, 10) and masks[-1].all()
    np.testing.assert_array_equal((masks == 0).sum(0), 1)


def test_reduced_bases_lose_nothing_when_they_are_wide_enough():
    source, target = make_world(noise=0.01)
    wide = mapping.fit('bilinear', source, target, basis_rank=24)
    wider = mapping.fit('bilinear', source, target, basis_rank=64)
    query = source['task0']
    np.testing.assert_allclose(dense(wide.predict(query)), dense(wider.predict(query)), atol=1e-3)


def test_zeros_beside_the_factors_leave_the_bases_as_they_are():
    """So they change no map: neither its penalty nor its random start."""
    source, _ = make_world(tasks=3)
    wide = {task: pad_rank(tree, 4) for task, tree in source.items()}
    found = []
    for anchors in (Anchors(source, 'plain'), Anchors(wide, 'wide')):
        factors = [anchors.layer(*tensor) for tensor in anchors.tensors]
        reductions = [reduce_basis(orthonormal_bases(a, b), 64) for a, b in factors]
        bases, lost = bilinear_part._used(anchors, reductions)
        assert list(bases) == anchors.tensors and max(lost) < 1e-5
        for basis, (a, b) in zip(bases.values(), factors, strict=True):
            assert basis.q_in.shape[1] == basis.q_out.shape[1] == 6  # three of rank 2
            np.testing.assert_allclose(basis.q_in @ basis.a, a, atol=1e-4)
            np.testing.assert_allclose(basis.b @ basis.q_out.T, b, atol=1e-4)
        found.append(bases)
    for tensor, basis in found[0].items():
        for side in ('q_in', 'q_out'):
            np.testing.assert_allclose(
                getattr(found[1][tensor], side), getattr(basis, side), atol=1e-3
            )


def test_predictions_leave_the_span_of_the_anchors():
    source, target = make_world(tasks=9, latents=8, noise=0.5)
    source, queries = split(source, 'task8')
    target, _ = split(target, 'task8')
    prediction = dense(
        mapping.fit('bilinear', source, target, output_rank=24).predict(queries['task8'])
    )
    anchors = np.stack([dense(tree) for tree in target.values()])
    projected = anchors.T @ np.linalg.lstsq(anchors.T, prediction, rcond=None)[0]
    assert np.linalg.norm(prediction - projected) > 0.1 * np.linalg.norm(prediction)


def test_diagnostics_say_what_reduced_bases_lose_and_how_anchors_were_left_out():
    source, target = (Anchors(side, 'any') for side in make_world())
    info = {
        rank: mapping.fit('bilinear', source, target, basis_rank=rank).diagnostics
        for rank in (2, 24)
    }
    assert info[2]['validation'] == '4-fold for the bilinear part, leave-one-out for the others'
    for side, anchors in (('source', source), ('target', target)):
        assert info[24]['parts']['bilinear']['basis_lost'][side]['largest'] < 1e-5
        shares = []
        for a, b in (anchors.layer(*tensor) for tensor in anchors.tensors):
            updates = np.einsum('air,aro->aio', a, b).astype(np.float64)
            u = np.linalg.svd(np.concatenate(list(updates), axis=1))[0][:, :2]
            v = np.linalg.svd(np.concatenate(list(updates.swapaxes(1, 2)), axis=1))[0][:, :2]
            kept = np.einsum('im,aio,on->amn', u, updates, v)
            shares.append(1 - np.sum(kept**2) / np.sum(updates**2))
        lost = info[2]['parts']['bilinear']['basis_lost'][side]
        assert lost['mean'] == pytest.approx(np.mean(shares), abs=1e-4)
        assert lost['largest'] == pytest.approx(np.max(shares), abs=1e-4)


def test_as_many_folds_as_anchors_are_leave_one_out():
    source, target = make_world(tasks=4)
    fitted = mapping.fit('bilinear', source, target, bilinear_folds=4, bilinear_starts=1)
    assert fitted.diagnostics['validation'] == 'leave-one-out'


def test_predictions_equal_dense_products_of_maps_and_updates():
    source, target = make_world(tasks=5)
    anchors = Anchors(target, 'target')
    options = Options(bilinear_starts=2, basis_rank=5)
    part = bilinear_part.fit(Anchors(source, 'source'), anchors, options)
    queries = Queries({'one': source['task0'], 'two': make_world(key=3)[0]['task1']})
    reduced = bilinear_part.reduce_queries(part.source_frame, queries)
    bases = dict(zip(part.source_frame.tensors, part.source_frame.bases, strict=True))
    for (projection, _), arrays in zip(anchors.tensors, part.per_tensor, strict=True):
        cores = bilinear_part.predict_cores(arrays, projection, reduced)
        for core, tree in zip(cores, (source['task0'], make_world(key=3)[0]['task1']), strict=True):
            factors, small = tree['layers'][projection], 0.0
            for k, layer in enumerate(arrays['layers']):
                q_in, q_out, *_ = bases[projection, int(layer)]
                update = q_in.T @ (factors['a'][layer] @ factors['b'][layer]) @ q_out
                for inner, outer in zip(arrays['inner'], arrays['outer'], strict=True):
                    small = small + inner[k] @ update @ outer[k].T / 2
            expected = arrays['target_in'] @ small @ arrays['target_out'].T
            np.testing.assert_allclose(core, expected, atol=1e-5 * np.abs(expected).max() + 1e-6)


def test_a_projection_that_the_source_lacks_is_named():
    source, target = make_world(tasks=3)
    source = {t: {'layers': {'q_proj': tree['layers']['q_proj']}} for t, tree in source.items()}
    with pytest.raises(InputError, match=r"source adapters lack \['v_proj'\]"):
        mapping.fit('bilinear', source, target)
