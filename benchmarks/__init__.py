"""Scripts that measure optverify; not part of the installed package."""
