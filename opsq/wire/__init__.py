"""Pure codecs: bytes and dicts in, frozen records out, no I/O."""
