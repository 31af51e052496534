"""From words to a pinned run: params merged, addresses replaced by immutable ids, and `kd plan`."""
