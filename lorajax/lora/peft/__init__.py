"""Adapters in PEFT format."""
