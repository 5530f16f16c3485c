"""The manual: the guides as Markdown files, and which of them belongs to a command or an error.

May import: the small modules.
"""
