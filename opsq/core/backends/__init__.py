"""Result stores behind one small protocol."""
