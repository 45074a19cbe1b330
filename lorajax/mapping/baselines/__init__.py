"""Maps without anchors, and anchors that correct them."""
