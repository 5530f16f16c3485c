"""Mail: compose it, check its templates, deliver it, and read what bounces.

May import: settings, output and the small modules; never store or a subject.
"""
