"""Patience with a SLURM controller that is away. Only the controlling Snakemake imports this, no stage does."""

from __future__ import annotations


def remember_min_job_age() -> None:
    """Let Snakemake's SLURM plugin keep the last MinJobAge that the controller told it.

    The plugin asks before every round of status queries. Told nothing, because the controller is restarting, it changes from
    squeue to sacct for that round, which may last an hour (`slurm-status-attempts`): without accounting sacct never answers,
    and jobs that end meanwhile are forgotten by the controller before squeue is asked again, so that the run hangs.
    """
    import snakemake_executor_plugin_slurm as plugin

    ask = plugin.get_min_job_age
    known = ask()

    def remembered() -> int | None:
        nonlocal known
        known = ask() or known
        return known

    plugin.get_min_job_age = remembered
