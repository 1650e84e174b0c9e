"""The shell: wires the stages, and alone touches disk, clock, keys and MLflow."""
