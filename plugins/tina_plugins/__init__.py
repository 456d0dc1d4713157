"""The built-in plugins, one small file each. Each can be deleted without touching the core."""
