"""Snakemake's jobs on a SLURM cluster. Only the controlling Snakemake imports this, no stage does."""
