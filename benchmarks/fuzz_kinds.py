"""Every kind of file that a command reads: a small valid directory, and the library's reader.

What a kind needs is imported when it is used, so that a search for one begins at once.
"""

import dataclasses
import functools
import pathlib
import shutil
from collections.abc import Callable
from typing import Any

import numpy as np

from lorajax import io


@dataclasses.dataclass(frozen=True)
class Kind:
    """Files of one kind.

    Attributes:
      write: makes a valid directory.
      read: reads it as a command does.
      files: those that are damaged.
    """

    write: Callable[[pathlib.Path], None]
    read: Callable[[pathlib.Path], Any]
    files: tuple[str, ...]


def _write_adapter(path: pathlib.Path, with_sums: bool = False) -> None:
    from lorajax import lora

    rng = np.random.default_rng(0)
    entry = {'a': rng.normal(size=(2, 8, 2)), 'b': rng.normal(size=(2, 2, 8))}
    config = lora.LoraConfig(
        2, 3, ('q_proj', 'up_proj'), rank_pattern={'up_proj': 2}, alpha_pattern={'q_proj': 5},
        base_model='owner/name@v1',
    )  # fmt: skip
    lora.save_peft(path, config, {'layers': dict.fromkeys(config.targets, entry)})
    if not with_sums:
        (path / io.SUMS_FILE).unlink()


def _read_adapter(path: pathlib.Path) -> None:
    from lorajax import lora

    config, adapter = lora.load_peft(path)
    lora.save_peft(path / 'again', config, adapter)


def _write_model(path: pathlib.Path, **options: Any) -> None:
    from tests.models import malformed

    malformed.write_valid(path, **options)


def _read_model(path: pathlib.Path) -> None:
    from lorajax.models import config
    from lorajax.models.hf import checkpoint

    checkpoint.find_tensors(path, config.read(path))


def _write_tokenizer(path: pathlib.Path) -> None:
    from tests import tiny_models

    tiny_models.write_tokenizer(path, 'qwen2', ['some text', 'more of it'], vocab_size=300)
    io.write_json(path / 'generation_config.json', {'eos_token_id': [1, 2]})


def _read_tokenizer(path: pathlib.Path) -> None:
    from lorajax.tasks import chat
    from lorajax.tasks.task import Example

    chat_format = chat.load_chat_format(path)
    encoded = chat_format.encode(Example('id', 'some text', 'more', '4'))
    chat_format.decode(encoded.answer)


def _write_rows(path: pathlib.Path) -> None:
    say = {'role': 'user', 'content': 'some text'}, {'role': 'assistant', 'content': 'more'}
    rows = [
        {'messages': list(say)},
        {'prompt': 'some text', 'completion': 'more'},
        {'prompt': [say[0]], 'completion': [say[1]]},
    ]
    io.write_jsonl(path / 'rows.jsonl', rows)


def _read_rows(path: pathlib.Path) -> None:
    from lorajax.tasks import sft_rows

    sft_rows.read_prompts(path / 'rows.jsonl')
    sft_rows.read(path / 'rows.jsonl')


def _write_task(path: pathlib.Path) -> None:
    rows = [
        {'question': f'Which of {n} and {n + 1} is larger?', 'choices': [str(n), str(n + 1)],
         'answer': n % 2 if n < 3 else 'B'}
        for n in range(6)
    ]  # fmt: skip
    io.write_jsonl(path / 'rows.jsonl', rows)
    content = {
        'task': 'larger', 'data_files': {'train': 'rows.jsonl', 'test': 'rows.jsonl'},
        'output_type': 'multiple_choice', 'doc_to_text': '{{question}} Say which.',
        'doc_to_target': 'answer', 'metadata': {'version': 2}, 'domain': 'math',
    }  # fmt: skip
    io.write_json(path / 'task.json', content)


def _read_task(path: pathlib.Path) -> None:
    from lorajax.tasks import data, task_file

    task = task_file.read(path / 'task.json')
    data.draw([task], [task], data.DataSource(), 4, 4, 0)


def _write_mapping(path: pathlib.Path, method: str) -> None:
    from lorajax import mapping

    mapping.fit(method, *_anchors()).save(path)
    (path / io.SUMS_FILE).unlink(missing_ok=True)


def _read_mapping(path: pathlib.Path) -> None:
    from lorajax import mapping

    mapping.load(path).predict(_anchors()[0]['t0'])


@functools.cache
def _anchors() -> tuple[dict[str, Any], dict[str, Any]]:
    """Three small adapters a side."""
    rng = np.random.default_rng(0)

    def draw(depth: int, width: int) -> dict[str, Any]:
        entry = {
            'a': rng.normal(size=(depth, width, 2)).astype(np.float32),
            'b': rng.normal(size=(depth, 2, width)).astype(np.float32),
        }
        return {'layers': {'q_proj': entry}}

    tasks = [f't{i}' for i in range(3)]
    return {task: draw(2, 8) for task in tasks}, {task: draw(3, 6) for task in tasks}


def _write_flagfile(path: pathlib.Path) -> None:
    source = pathlib.Path(__file__).resolve().parent.parent / 'launch' / 'toy.flags'
    shutil.copy(source, path / 'toy.flags')


def _read_flagfile(path: pathlib.Path) -> None:
    from lorajax.commands import parse

    parse.parse([f'--flagfile={path / "toy.flags"}'])


def _write_outcomes(path: pathlib.Path) -> None:
    rows = [
        {'task': 't', 'method': method, 'item': f'i{item}', 'correct': bool(item % 2),
         'prediction': 'x', 'reference': 'y', 'nll': 0.5}
        for method in ('base', 'mean', 'oracle')
        for item in range(4)
    ]  # fmt: skip
    io.write_jsonl(path / 't.jsonl', rows)


def _read_outcomes(path: pathlib.Path) -> None:
    from lorajax.evaluation import outcomes, results

    table = outcomes.read_table(path / 't.jsonl', 't')
    results.build({'methods': [], 'domains': {'t': 'math'}}, {'t': table})


def _write_examples(path: pathlib.Path) -> None:
    from lorajax.tasks import examples
    from lorajax.tasks.task import Example

    row = Example('a/1', 'some text', 'more', '4', ('text/1',), {'labels': ['A', 'B']}, 'text')
    examples.write(path / 't.jsonl', [row, row])
    (path / 't.jsonl.sha256').unlink()


def _read_examples(path: pathlib.Path) -> None:
    from lorajax.tasks import examples

    for example in examples.read(path / 't.jsonl'):
        example.to_json()


def _write_pairs(path: pathlib.Path) -> None:
    for task in ('a', 'b'):
        for side in ('source', 'target'):
            _write_adapter(path / task / side)


def _read_pairs(path: pathlib.Path) -> None:
    from lorajax.mapping import pairs

    *sides, _ = pairs.read(path)
    for loaders in sides:
        for load in loaders.values():
            load()


def _write_run(path: pathlib.Path) -> None:
    """A finished run, as far as its report is made of it."""
    from lorajax.experiment import provenance

    experiment = _experiment(path)
    files = experiment.files
    for task in experiment.heldouts:
        files.outcomes(task).parent.mkdir(parents=True, exist_ok=True)
        _write_outcomes(files.outcomes(task).parent)
        rows = (files.outcomes(task).parent / 't.jsonl').read_text()
        for target in (files.outcomes(task), files.source_outcomes(task)):
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(rows.replace('"t"', f'"{task}"'))
    io.write_json(
        files.config,
        {**experiment.to_json(), 'domains': dict.fromkeys(experiment.heldouts, 'math'),
         'twins': {task: ['gsm8k'] for task in experiment.heldouts},
         'data_hash': provenance.hash_rows(files.data), 'model_hashes': {}},
    )  # fmt: skip
    files.mappings.mkdir()
    io.write_json(files.selection, {'selected_method': 'mean', 'loo_r2': {'mean': 0.0}})
    io.write_jsonl(files.metrics, [{'event': 'train', 'side': 'source', 'step': 1, 'loss': [1.0]}])


def _read_run(path: pathlib.Path) -> None:
    from lorajax.experiment.stages import prepare, report

    experiment = _experiment(path)
    prepare.check_prepared(experiment)
    report.rebuild_report(experiment.files)


def _experiment(path: pathlib.Path) -> Any:
    from lorajax.experiment.config import Experiment

    return Experiment(workdir=str(path), heldouts=('toy_math_keep_7',), methods=('mean',))


ADAPTER = ('adapter_config.json', 'adapter_model.safetensors')
TOKENIZER = (
    'tokenizer.json',
    'tokenizer_config.json',
    'chat_template.jinja',
    'generation_config.json',
)
KINDS: dict[str, Kind] = {
    'adapter': Kind(_write_adapter, _read_adapter, ADAPTER),
    'sums': Kind(
        functools.partial(_write_adapter, with_sums=True), _read_adapter, (io.SUMS_FILE, *ADAPTER)
    ),
    'model': Kind(_write_model, _read_model, ('config.json', 'model.safetensors')),
    'shards': Kind(
        functools.partial(_write_model, shard_bytes=40_000), _read_model,
        ('model.safetensors.index.json', 'model-00001-of-00004.safetensors'),
    ),
    'tokenizer': Kind(_write_tokenizer, _read_tokenizer, TOKENIZER),
    'rows': Kind(_write_rows, _read_rows, ('rows.jsonl',)),
    'task file': Kind(_write_task, _read_task, ('task.json', 'rows.jsonl')),
    'prepared rows': Kind(_write_examples, _read_examples, ('t.jsonl',)),
    'pairs': Kind(
        _write_pairs, _read_pairs, tuple(f'a/{side}/{name}' for side in ('source', 'target')
                                         for name in ADAPTER),
    ),
    'run': Kind(
        _write_run, _read_run,
        ('config.json', 'mappings/selection.json', 'metrics.jsonl',
         'outcomes/source/toy_math_keep_7.jsonl'),
    ),
    **{
        f'mapping by {method}': Kind(
            functools.partial(_write_mapping, method=method), _read_mapping,
            ('mapping.json', *(f'{part}.safetensors' for part in parts)),
        )
        for method, *parts in (
            ('delta_ridge', 'arrays', 'source/0000', 'frame/0002'),
            ('mean', 'arrays', 'target/0001'),
            ('matched_scaled', 'arrays', 'source/0001', 'frame/0000'),
            ('bilinear_ridge', 'arrays', 'source_frame/0001', 'frame/0001', 'tensors/0001'),
            ('pertensor_mlp', 'arrays'),
            ('topk2_global_ridge', 'arrays'),
            ('delta_pca', 'arrays'),
            ('pad_truncate', 'tensors/0002'),
        )
    },
    'flagfile': Kind(_write_flagfile, _read_flagfile, ('toy.flags',)),
    'outcomes': Kind(_write_outcomes, _read_outcomes, ('t.jsonl',)),
}  # fmt: skip
