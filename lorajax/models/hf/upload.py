"""Adapters and their model cards, written to the hub."""

import pathlib

from lorajax import io
from lorajax.errors import InputError
from lorajax.lora import load_peft
from lorajax.lora.peft.names import CONFIG_FILE, WEIGHTS_FILE
from lorajax.model_names import is_hub_id, split_revision
from lorajax.models.hf import hub

CARD = 'README.md'
_MORE = (CARD, 'SHA256SUMS', 'tokenizer_config.json', 'tokenizer.json', 'chat_template.jinja')


def files_of(directory: io.PathLike, repo: str) -> list[pathlib.Path]:
    """Returns the files of an adapter that belong on the hub, after a look at all of them.

    Args:
      directory: an adapter in PEFT format.
      repo: where to, 'owner/name'.

    Raises:
      InputError: if the adapter cannot be read, its base has no name on the hub, there is no
        model card beside it, or `repo` is no name of the hub's.
    """
    directory = pathlib.Path(directory)
    if not is_hub_id(repo):
        raise InputError(f'{repo}: expected a name on the hub, owner/name')
    config, _ = load_peft(directory)
    base = split_revision(config.base_model or '')[0]
    if not is_hub_id(base):
        raise InputError(
            f'{directory / CONFIG_FILE}: base_model_name_or_path is {base or "empty"}, expected '
            'the name of the base model on the hub, owner/name'
        )
    if not (directory / CARD).is_file():
        raise InputError(f'{directory}: has no {CARD}, expected a model card')
    more = [directory / name for name in _MORE]
    return [directory / CONFIG_FILE, directory / WEIGHTS_FILE, *filter(pathlib.Path.is_file, more)]


def push(directory: io.PathLike, repo: str, is_private: bool = True, message: str = '') -> str:
    """Uploads an adapter as one commit, making the repository where there is none.

    Args:
      directory: an adapter in PEFT format with a model card.
      repo: 'owner/name'; the token of `HF_TOKEN` or of `hf auth login` must be allowed to write.
      is_private: of a repository that is made; one that is there stays as it is.
      message: of the commit.

    Returns:
      The address of the commit.

    Raises:
      InputError: as `files_of`; one line where there is no token, or the hub refuses or is out of
        reach.
    """
    from huggingface_hub import CommitOperationAdd, HfApi, constants, get_token
    from huggingface_hub.errors import HTTPError

    files = files_of(directory, repo)
    if constants.HF_HUB_OFFLINE:
        raise InputError(f'{repo}: HF_HUB_OFFLINE forbids to write to {constants.ENDPOINT}')
    if not get_token():
        raise InputError(
            f'{repo}: there is no token for {constants.ENDPOINT}, expected HF_TOKEN set to one '
            'that may write'
        )
    api = HfApi()
    operations = [CommitOperationAdd(path.name, str(path)) for path in files]
    try:
        api.create_repo(repo, private=is_private, exist_ok=True)
        done = api.create_commit(
            repo, operations, commit_message=message or 'Upload a LoRA adapter with lorajax'
        )
    except (HTTPError, OSError) as error:
        raise InputError(f'{repo}: {hub.explain(repo, None, error)}') from None
    return str(done.commit_url)
