"""Why a task is not running: evidence in, causes with their verdicts out."""
