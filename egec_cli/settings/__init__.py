"""The settings: types and parsers, environment variables with their defaults, loading.

May import: the small modules.
"""
