"""Settings of each test."""

from tests.helpers.settings import settings_of_a_test

__all__ = ["settings_of_a_test"]
