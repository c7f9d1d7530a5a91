"""Has Hydra look for config groups and studies in the user's folders first."""

from __future__ import annotations

from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.plugins import Plugins
from hydra.plugins.search_path_plugin import SearchPathPlugin

from mbexp.paths import own_config_dirs


class OwnFolders(SearchPathPlugin):
    """Puts the folders of ``--config-dir`` and ``MBEXP_CONFIG_PATH`` before that of mbexp, so that their files win."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Add them; Hydra calls it whenever it composes anew."""
        for folder in reversed(own_config_dirs()):
            search_path.prepend("mbexp-own", f"file://{folder}")


def register() -> None:
    """Make the folders known to Hydra."""
    Plugins.instance().register(OwnFolders)
