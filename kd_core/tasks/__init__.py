"""What differs between kinds of tasks, by aspect: each aspect is a folder, each kind a file in it (docs/tasks.md)."""
