"""Where what was learnt of limits and warm conversations outlives the process."""
