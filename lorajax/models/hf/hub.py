"""Model files by hub id: the cache first where it must be right, the network where it is there.

Endpoint, cache directory, token and offline mode are those of `huggingface_hub`: HF_ENDPOINT,
HF_HOME or HF_HUB_CACHE, HF_TOKEN or a stored login, HF_HUB_OFFLINE.
"""

import pathlib
import re

from absl import logging

from lorajax.errors import InputError
from lorajax.model_names import SHIPPED, is_hub_id, join_revision, split_revision

# What a model is loaded from. Files in folders are copies in other formats.
_WANTED = ['*.json', '*.safetensors', '*.jinja', 'tokenizer.model', 'merges.txt', 'vocab.txt']
_OTHER_COPIES = ['*/*', 'consolidated*', 'adapter_*']
# What must be there: other programs cache what they need of a model and no more.
_NEEDED = ['config.json', 'model*.safetensors', 'model.safetensors.index.json', 'tokenizer.json']
_COMMIT = re.compile(r'[0-9a-f]{40}')
_PATIENCE = 10.0  # seconds for the first answer; downloads have the hub client's own limits


def resolve(path_or_id: str, revision: str | None = None) -> pathlib.Path:
    """Returns the local directory of a model, fetching a hub id if it is not a directory.

    Args:
      path_or_id: a directory in HF format, a hub id such as 'Qwen/Qwen2.5-3B-Instruct', with a
        revision behind an @ or without, or the name of a shipped model, such as 'toy-target'.
      revision: branch, tag or commit on the hub, if the id names none.

    Raises:
      InputError: if it is neither, or the hub cannot be reached and nothing is cached.
    """
    path = pathlib.Path(path_or_id).expanduser()
    if path_or_id in SHIPPED and not path.is_dir():
        return SHIPPED[path_or_id]
    if path.is_dir():
        if not (path / 'config.json').is_file():
            raise InputError(f'{path}: holds no config.json, expected a model in HF format')
        return path
    repo, named = split_revision(path_or_id)
    if not is_hub_id(repo):
        raise InputError(
            f'{path_or_id}: no such directory, and not a hub id (owner/name or owner/name@revision)'
        )
    if named and revision and named != revision:
        raise InputError(f'{path_or_id}: names another revision than {revision}, expected one')
    directory = fetch(repo, named or revision)
    if not (directory / 'config.json').is_file():
        raise InputError(f'{path_or_id}: has no config.json, expected a model in HF format')
    return directory


def fetch(repo: str, revision: str | None = None) -> pathlib.Path:
    """Returns the snapshot directory of a hub model, downloading what the cache lacks.

    A commit that is in the cache is taken without any request, since it cannot change. For a
    branch or tag the hub is asked what it stands for; where the hub is out of reach, or refuses,
    the cached state is taken, with a warning.

    Args:
      repo: 'owner/name'.
      revision: branch, tag or commit; the branch main if None.

    Raises:
      InputError: one line that says which of these it is: no such model or no access to it,
        a gated model, no such revision, a hub out of reach, a download that breaks off.
    """
    from huggingface_hub import HfApi, constants, snapshot_download
    from huggingface_hub.errors import HFValidationError, HTTPError, RevisionNotFoundError

    name = join_revision(repo, revision)
    if constants.HF_HUB_OFFLINE or _COMMIT.fullmatch(revision or ''):
        cached = _cached(repo, revision)
        if cached:
            return cached
    if constants.HF_HUB_OFFLINE:
        raise InputError(
            f'{name}: no such directory, the cache {constants.HF_HUB_CACHE} does not hold it, and '
            'HF_HUB_OFFLINE forbids to fetch it'
        )
    try:
        # One request that is not repeated: `snapshot_download` alone repeats its own for 24 s
        # before it says that a pinned commit is out of reach.
        HfApi().model_info(repo, revision=revision, timeout=_PATIENCE)
    except HFValidationError:
        raise InputError(
            f'{name}: no such directory, and not a hub id (owner/name or owner/name@revision)'
        ) from None
    except HTTPError as error:
        reason = explain(repo, revision, error)
        cached = None if isinstance(error, RevisionNotFoundError) else _cached(repo, revision)
        if not cached:
            raise InputError(f'{name}: no such directory, and {reason}') from None
        logging.warning('%s: %s; the cached copy %s is taken', name, reason, cached.name)
        return cached
    try:
        path = snapshot_download(
            repo, revision=revision, allow_patterns=_WANTED, ignore_patterns=_OTHER_COPIES
        )
    except (HTTPError, OSError) as error:
        raise InputError(f'{name}: {explain(repo, revision, error)}') from None
    return pathlib.Path(path)


def _cached(repo: str, revision: str | None) -> pathlib.Path | None:
    """Returns the cached snapshot of a revision if all that is needed is there."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        path = pathlib.Path(
            snapshot_download(
                repo, revision=revision, allow_patterns=_NEEDED, local_files_only=True
            )
        )
    except (LocalEntryNotFoundError, HFValidationError):
        return None
    return path if (path / 'config.json').is_file() else None


def explain(repo: str, revision: str | None, error: Exception) -> str:
    """Returns what went wrong at the hub, and what to do about it, in one line.

    Args:
      repo: 'owner/name'.
      revision: that was asked for, if any.
      error: of the hub's client, or of the operating system.
    """
    from huggingface_hub import constants, errors

    hub = constants.ENDPOINT
    detail = (str(error).strip() or 'no details').split('\n')[0]
    if isinstance(error, errors.RevisionNotFoundError):
        return f'{hub}/{repo} has no branch, tag or commit {revision}'
    if isinstance(error, errors.GatedRepoError):
        return f'{hub}/{repo} is gated: accept its terms there and set HF_TOKEN to a token of yours'
    if isinstance(error, errors.RepositoryNotFoundError):
        return (
            f'{hub} has no such model or hides it: expected another name, or HF_TOKEN set to a '
            'token that may read it'
        )
    if isinstance(error, errors.HfHubHTTPError):
        return f'{hub} answers with status {error.response.status_code}: {detail}'
    if isinstance(error, errors.HTTPError):
        return f'{hub} is out of reach ({type(error).__name__}: {detail})'
    return f'it cannot be fetched from {hub} ({type(error).__name__}: {detail})'
