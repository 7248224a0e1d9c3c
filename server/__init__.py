"""Serve: what is launched to be measured."""
