"""What a command consists of."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from lorajax.experiment.config import RECIPE, Experiment
from lorajax.experiment.options import Option, options_of


@dataclasses.dataclass(frozen=True)
class Command:
    """A command of `python -m lorajax.launch`.

    Attributes:
      name: as it is typed.
      run: does it: takes the command's own flags, an instance of `flags`, and an `Experiment`
        of which it looks at the settings in `reads` alone. Its docstring is the help.
      flags: dataclass of the command's own settings, made with `option`.
      reads: settings of `Experiment` that it reads, by name or by group.
      only_with: setting, or group of settings -> own flags; it is read where one of these is given.
      plan: says what the command would do, a line each, without doing or loading anything.
      has_recipe: whether these start from `RECIPE` and not from the toy world's numbers. The name
        of an own flag means: where that flag is given.
    """

    name: str
    run: Callable[[Any, Experiment], None]
    flags: type
    reads: tuple[str, ...] = ()
    has_recipe: bool | str = False
    only_with: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    plan: Callable[[Any, Experiment], list[str]] | None = None

    @property
    def own(self) -> dict[str, Option]:
        """The command's own settings."""
        return options_of(self.flags)

    @property
    def settings(self) -> dict[str, Option]:
        """The settings of `Experiment` that it reads, in that order.

        What takes a mesh compiles programs, and has a place to keep them.
        """
        reads = {*self.reads, *(('compilation_cache',) if 'mesh' in self.reads else ())}
        return {
            name: setting
            for name, setting in options_of(Experiment).items()
            if name in reads or setting.group in reads
        }

    @property
    def options(self) -> dict[str, Option]:
        """All flags that the command reads."""
        return self.own | self.settings

    def condition(self, name: str) -> tuple[str, ...]:
        """Returns the own flags of which a setting needs one to be read; () if it needs none."""
        setting = self.settings.get(name)
        group = setting.group if setting else ''
        return self.only_with.get(name) or self.only_with.get(group, ())

    def defaults(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Returns defaults of `settings` that differ from those of `Experiment`.

        Args:
          given: the flags that were given, which may decide; see `has_recipe`.
        """
        is_recipe = self.has_recipe if isinstance(self.has_recipe, bool) else (
            self.has_recipe in given
        )  # fmt: skip
        return {name: RECIPE[name] for name in self.settings if is_recipe and name in RECIPE}
