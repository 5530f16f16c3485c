"""The settings: types, environment variables with their defaults, parsing and loading.

May import: the small modules.
"""
