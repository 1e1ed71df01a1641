"""Who may see and do what on the pages: accounts, sign-in, permissions, limits. One gate checks them all."""
