"""One small file for each part of opsq that can be of your own; `docs/extending.md` tells where each is hung in."""
