"""The front door: servers -> load -> verdict -> report."""
