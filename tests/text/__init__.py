"""Tests of lorajax.text."""
