"""Workers in jobs of their own, submitted to Slurm by dask-jobqueue."""

from daskae.engine.slurm.start import DEATH_TIMEOUT, job_options, start_slurm

__all__ = ["DEATH_TIMEOUT", "job_options", "start_slurm"]
