"""Tests of lorajax.stories."""
