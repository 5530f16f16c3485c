"""What a person sees: commands at a terminal emulator, compared with the screens in this folder.

`python -m tests.screens` writes the screens again; look at each difference before you commit it.
"""
