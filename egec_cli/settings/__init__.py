"""The settings: their schema and defaults, how they are parsed and where they are loaded from.

May import: the small modules.
"""
