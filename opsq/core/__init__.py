"""The task queue: applications, tasks, calls and results (client side); worker, pools (worker side)."""
