"""Conversion passes that come with fyc, one package each."""
