"""Runs one stage of one run in every runner: cache, workspace, process, outputs."""
