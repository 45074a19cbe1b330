"""Peers of other makes: maps that need no anchors, and anchors that correct them."""
