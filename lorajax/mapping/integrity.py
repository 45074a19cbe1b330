"""Whether the parts of a stored mapping belong together; of its files only headers are read."""

import pathlib

from lorajax import io
from lorajax.errors import InputError
from lorajax.mapping import layout, manifest
from lorajax.mapping.methods import method_named
from lorajax.mapping.state import MappingState
from lorajax.mapping.subspace import Frame


def check(root: pathlib.Path, header: manifest.Header, state: MappingState) -> None:
    """Checks that a mapping has what its method keeps, and that all of it fits together.

    Args:
      root: the mapping's directory.
      header: out of its manifest.
      state: its parts, of which no anchor and no basis is read here.

    Raises:
      InputError: naming the file and the part.
    """
    _check_parts(root / manifest.FILE, header, state)
    _check_tensors(root / manifest.FILE, header, state)
    _check_arrays(root, header, state)


def _check_parts(path: pathlib.Path, header: manifest.Header, state: MappingState) -> None:
    """Checks that anchors and bases are those of the method, the anchors those of the header."""
    expected = method_named(header.method).layout.parts
    parts = (*manifest.ANCHORS, *manifest.FRAMES)
    here = [part for part in parts if getattr(state, part) is not None]
    if set(here) != set(expected):
        raise InputError(f'{path}: has {here}, expected {list(expected)} for {header.method}')
    for part in manifest.ANCHORS:
        anchors = getattr(state, part)
        if anchors is not None and anchors.tasks != header.tasks:
            raise InputError(
                f'{path}: {part} is {io.show(list(anchors.tasks))}, expected the tasks '
                f'{io.show(list(header.tasks))}'
            )


def _check_tensors(path: pathlib.Path, header: manifest.Header, state: MappingState) -> None:
    """Checks that tensors and widths of the parts are those that the header says."""
    if state.source and state.source.shapes != header.query_shapes:
        raise InputError(f'{path}: query_shapes are not those of the adapters in source')
    if state.target and state.target.tensors != state.tensors:
        raise InputError(f'{path}: tensors are not those of the adapters in target')
    if state.frame and state.frame.tensors != state.tensors:
        raise InputError(f'{path}: frame_tensors differ from tensors, expected the same')
    queried = [(p, k) for p, shape in header.query_shapes.items() for k in range(shape.layers)]
    if state.source_frame and state.source_frame.tensors != queried:
        raise InputError(f'{path}: source_frame_tensors are not those of query_shapes')
    for part in manifest.FRAMES:
        frame = getattr(state, part)
        if frame is not None:
            _check_bases(path.parent / part, frame, len(header.tasks))
    if state.source_frame:
        for (projection, _), basis in zip(queried, state.source_frame.bases, strict=True):
            shape, widths = header.query_shapes[projection], (len(basis.q_in), len(basis.q_out))
            if widths != (shape.n_in, shape.n_out):
                raise InputError(f'{path}: {projection} has bases of widths {widths}, not {shape}')


def _check_bases(root: pathlib.Path, frame: Frame, anchors: int) -> None:
    """Checks the shapes of a side's bases; reads nothing but headers."""
    widths: dict[str, tuple[int, ...]] = {}
    for index, ((projection, _), basis) in enumerate(zip(frame.tensors, frame.bases, strict=True)):
        shapes = [part.shape for part in basis]
        q_in, q_out, a, b = shapes
        fits = list(map(len, shapes)) == [2, 2, 3, 3] and (
            a == (anchors, q_in[1], a[2]) and b == (anchors, a[2], q_out[1])
        )
        if not fits or widths.setdefault(projection, (q_in[0], q_out[0])) != (q_in[0], q_out[0]):
            raise InputError(
                f'{manifest.file_of(root, index)}: holds shapes {shapes}, expected q_in [in, M], '
                f'q_out [out, N], a [{anchors}, M, R] and b [{anchors}, R, N], widths equal in all '
                'layers'
            )


def _check_arrays(root: pathlib.Path, header: manifest.Header, state: MappingState) -> None:
    """Checks the arrays that the method keeps beside anchors and bases."""
    wanted = method_named(header.method).layout
    depths = {p: shape.layers for p, shape in header.query_shapes.items()}
    known = {'A': len(header.tasks), 'P': len(state.tensors), 'X': sum(depths.values())}
    layout.check(root / 'arrays.safetensors', state.arrays, wanted.arrays, known)
    widths: dict[str, layout.Sizes] = {}
    for index, arrays in enumerate(state.per_tensor):
        projection, _ = state.tensors[index]
        shape = header.query_shapes.get(projection)
        if shape is None:
            raise InputError(f'{root / manifest.FILE}: query_shapes lacks {projection} of tensors')
        sizes = {'D': shape.layers, 'i': shape.n_in, 'o': shape.n_out, **widths.get(projection, {})}
        if state.frame:
            basis = state.frame.bases[index]
            sizes |= {'I': len(basis.q_in), 'O': len(basis.q_out)}
            sizes |= {'M': basis.q_in.shape[1], 'N': basis.q_out.shape[1]}
        if state.source_frame:
            basis = next(
                b
                for (p, _), b in zip(
                    state.source_frame.tensors, state.source_frame.bases, strict=True
                )
                if p == projection
            )
            sizes |= {'m': basis.q_in.shape[1], 'n': basis.q_out.shape[1]}
        found = layout.check(
            manifest.file_of(root / 'tensors', index), arrays, wanted.per_tensor, sizes
        )
        widths[projection] = {letter: found[letter] for letter in 'IO' if letter in found}
