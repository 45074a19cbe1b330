"""An adapter with its config is saved for its own base, and shows itself in a line."""

import numpy as np

from lorajax import lora

CONFIG = lora.LoraConfig(rank=2, alpha=4, targets=('q_proj',), base_model='owner/base@v1')
TREE = {'layers': {'q_proj': {
    'a': np.ones((3, 8, 2), np.float32), 'b': np.ones((3, 2, 8), np.float32)
}}}  # fmt: skip


def test_what_is_saved_is_what_is_read(tmp_path):
    lora.PeftAdapter(CONFIG, TREE).save(tmp_path / 'adapter')
    read = lora.load_peft(tmp_path / 'adapter')
    config, tree = read
    assert (read.config, config.base_model) == (config, 'owner/base@v1')
    np.testing.assert_array_equal(tree['layers']['q_proj']['b'], TREE['layers']['q_proj']['b'])
    read.save(tmp_path / 'again')
    for path in (tmp_path / 'adapter').iterdir():
        assert (tmp_path / 'again' / path.name).read_bytes() == path.read_bytes()


def test_it_shows_itself_in_a_line():
    assert repr(lora.PeftAdapter(CONFIG, TREE)) == (
        'PeftAdapter(rank 2, alpha 4, q_proj of 3 layers, for owner/base@v1)'
    )
