"""Settings of each file, with a registry of its own."""

from tests.helpers.settings import elsewhere, settings_of_a_file, unproven

__all__ = ["elsewhere", "settings_of_a_file", "unproven"]
